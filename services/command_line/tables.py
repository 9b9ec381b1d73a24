"""Rows under titles, for eyes: columns as wide as what they hold.

It knows text only, neither what a row is about nor the terminal. A library for it took longer to be imported than the
question to the service and its answer together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import click

_GAP = "   "


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[str] = (),
    spare: Sequence[str] = (),
    width: float = math.inf,
) -> str:
    """Lay out rows, each with a cell for every title, which may be styled by `click.style`.

    Columns are aligned to the right, but for those that `left` names. Of a table that is wider than `width` characters
    the columns that `spare` names are left out, the first of them first, until it is not. The result ends with a line's
    end and has an empty line before and after the table.
    """
    columns = list(zip(titles, *rows, strict=True))
    for title in spare:
        if 1 + _wide(columns) <= width:
            break
        columns = [column for column in columns if column[0] != title]
    titles, *rows = zip(*columns, strict=True)
    widths = [max(map(_width, column)) for column in columns]
    sides = [title in left for title in titles]
    lines = [
        _GAP.join(_padded(cell, width, side) for cell, width, side in zip(row, widths, sides, strict=True)).rstrip()
        for row in (titles, *rows)
    ]
    lines.insert(1, "─" * _wide(columns))
    return "\n" + "".join(f" {line}\n" for line in lines) + "\n"


def _wide(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(_width, column)) for column in columns) + len(_GAP) * (len(columns) - 1)


def _padded(cell: str, width: int, to_the_left: bool) -> str:  # noqa: FBT001 - one of two sides
    blanks = " " * (width - _width(cell))
    return cell + blanks if to_the_left else blanks + cell


def _width(cell: str) -> int:
    return len(click.unstyle(cell))
