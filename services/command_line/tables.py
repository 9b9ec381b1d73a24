"""Rows under titles, for eyes: columns as wide as what they hold.

It knows text only, neither what a row is about nor the terminal. A library for it took longer to be imported than the
question to the service and its answer together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

_GAP = "   "


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[str] = ()) -> str:
    """Lay out rows, each with a cell for every title, which may be styled by `click.style`.

    Columns are aligned to the right, but for those that `left` names. The result ends with a line's end and has an
    empty line before and after the table.
    """
    widths = [max(map(_width, column)) for column in zip(titles, *rows, strict=True)]
    sides = [title in left for title in titles]
    lines = [
        _GAP.join(_padded(cell, width, side) for cell, width, side in zip(row, widths, sides, strict=True)).rstrip()
        for row in (titles, *rows)
    ]
    lines.insert(1, "─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
    return "\n" + "".join(f" {line}\n" for line in lines) + "\n"


def _padded(cell: str, width: int, to_the_left: bool) -> str:  # noqa: FBT001 - one of two sides
    blanks = " " * (width - _width(cell))
    return cell + blanks if to_the_left else blanks + cell


def _width(cell: str) -> int:
    return len(click.unstyle(cell))
