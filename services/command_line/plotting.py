"""A series drawn with text: dots of braille between a scale of values and one of hours.

It knows numbers only, neither metrics nor the terminal. A library for it took longer to be imported and to draw than
the question to the service and its answer together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_CELL_WIDTH, _CELL_HEIGHT = 2, 4
_BLANK = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bit of each dot in a braille character, by column and row from the top (The Unicode Standard, "Braille")."""

_ROWS_A_TICK = 3
_CELLS_A_TICK = 9
_MINUTES_BELOW_HOURS = 3
_STEPS = {"minutes": (1, 2, 5, 10, 15, 30), "hours": (1, 2, 3, 6, 12, 24)}
"""How far ticks may be apart; the last may be doubled as often as is needed."""


def plot(values: Sequence[float], hours: float, *, width: int, height: int, label: Callable[[float], str]) -> str:
    """Draw values that are evenly spread over the `hours` before the end, in so many characters, scales included.

    NaN leaves a gap; at least one value must be a number. `label` writes a value at the scale. The result has `height`
    lines of dots and three below them, and ends with a line's end.
    """
    present = [value for value in values if not math.isnan(value)]
    least, greatest = min(present), max(present)
    if least == greatest:
        reach = abs(greatest) / 100 or 1.0
        least, greatest = least - reach, greatest + reach
    labels = [
        "" if row % _ROWS_A_TICK else label(greatest - (greatest - least) * row / (height - 1)) for row in range(height)
    ]
    margin = max(map(len, labels))
    cells = max(1, width - margin - 2)
    rows = _rows(_spans(values, least, greatest, cells * _CELL_WIDTH, height * _CELL_HEIGHT), height)
    lines = [f"{text:>{margin}} {'┤' if text else '│'}{row}" for text, row in zip(labels, rows, strict=True)]
    return "\n".join([*lines, *_scale(hours, cells, margin + 2)]) + "\n"


def _spans(values: Sequence[float], least: float, greatest: float, columns: int, rows: int) -> list[list[int]]:
    """Return the lowest and the highest dot of each column, [rows, -1] where it has none; rows count from the top.

    Neighbours are joined by a straight line, so that a column spans whatever the line passes in it.
    """
    spans = [[rows, -1] for _ in range(columns)]
    across = (columns - 1) / max(1, len(values) - 1)

    def mark(column: int, height: float) -> None:
        span, row = spans[column], round(height)
        span[0], span[1] = min(span[0], row), max(span[1], row)

    before = math.nan
    for place, value in enumerate(values):
        if math.isnan(value):
            before = math.nan
            continue
        x, y = place * across, (greatest - value) / (greatest - least) * (rows - 1)
        if not math.isnan(before):
            # At the border between two columns the line is in both.
            start = x - across
            for column in range(round(start), round(x)):
                border = before + (y - before) * (column + 0.5 - start) / across
                mark(column, border)
                mark(column + 1, border)
        mark(round(x), y)
        before = y
    return spans


def _rows(spans: Sequence[Sequence[int]], height: int) -> list[str]:
    """Return the lines of braille in which every column has the dots of its span."""
    codes = [[_BLANK] * (len(spans) // _CELL_WIDTH) for _ in range(height)]
    for column, (top, bottom) in enumerate(spans):
        cell, side = divmod(column, _CELL_WIDTH)
        for row in range(top, bottom + 1):
            codes[row // _CELL_HEIGHT][cell] |= _DOTS[side][row % _CELL_HEIGHT]
    return ["".join(map(chr, line)) for line in codes]


def _scale(hours: float, cells: int, margin: int) -> tuple[str, str, str]:
    """Return the scale below the dots, which begin after the margin: its line, its numbers, and what they are."""
    unit, length = ("hours", hours) if hours >= _MINUTES_BELOW_HOURS else ("minutes", hours * 60)
    fitting = (step for step in _STEPS[unit] if length * _CELLS_A_TICK <= step * cells)
    step = next(fitting, _STEPS[unit][-1])
    while length * _CELLS_A_TICK > step * cells:
        step *= 2
    line, numbers = ["─"] * cells, [" "] * (margin + cells)
    for before in range(0, math.floor(length) + 1, step):
        cell, text = round((1 - before / length) * (cells - 1)), str(-before)
        line[cell] = "┬"
        end = margin + cell + 1
        if len(text) <= end:
            numbers[end - len(text) : end] = text
    return f"{'└':>{margin}}{''.join(line)}", "".join(numbers), f"{f'{unit} before the end':>{margin + cells}}"
