"""A series drawn with text: every value has its dot, a gap has none, and the scales say what is where."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.command_line.plotting import plot

WIDTH, HEIGHT = 60, 8
NAN = math.nan


def dots(drawn: str) -> list[list[bool]]:
    """Return the dots of a plot, row by row from the top."""
    cells = [[ord(cell) - 0x2800 for cell in re.sub(r"^[^│┤]*[│┤]", "", line)] for line in drawn.splitlines()[:-3]]
    bits = ((0, 3), (1, 4), (2, 5), (6, 7))
    return [[bool(cell >> bit & 1) for cell in line for bit in pair] for line in cells for pair in bits]


def draw(values: list[float], *, hours: float = 24, width: int = WIDTH, height: int = HEIGHT) -> str:
    """Draw with a scale of whole numbers."""
    return plot(values, hours, width=width, height=height, label=lambda value: f"{value:.0f}")


@given(
    st.lists(st.floats(-1e9, 1e9) | st.just(NAN), min_size=1, max_size=300).filter(
        lambda values: not all(map(math.isnan, values))
    )
)
def test_every_value_has_its_dot(values: list[float]) -> None:
    """A value is drawn in its column, at its height between the least and the greatest."""
    drawn = dots(draw(values))
    present = [value for value in values if not math.isnan(value)]
    least, spread = min(present), max(present) - min(present)
    columns, rows = len(drawn[0]), len(drawn)

    for place, value in enumerate(values):
        if math.isnan(value):
            continue
        column = place * (columns - 1) / max(1, len(values) - 1)
        row = (rows - 1) * (1 - (value - least) / spread) if spread > 1e-6 else None
        near = [
            (x, y)
            for x in range(columns)
            for y in range(rows)
            if drawn[y][x] and abs(x - column) <= 1 and (row is None or abs(y - row) <= 1)
        ]
        assert near, (place, value)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300))
def test_the_line_is_whole(values: list[float]) -> None:
    """Without gaps every column between the first value and the last has dots, and neighbours touch."""
    drawn = dots(draw(values))
    spans = [[y for y, row in enumerate(drawn) if row[x]] for x in range(len(drawn[0]))]

    if len(values) == 1:
        spans = spans[:1]
    assert all(spans)
    for left, right in itertools.pairwise(spans):
        assert min(left) <= max(right) + 1
        assert min(right) <= max(left) + 1


@pytest.mark.parametrize("values", [[0.0, 5e-324], [-5e-324, 1e-323], [1e9, 1e9 + 1.2e-7], [1e300, -1e300]])
def test_any_two_values_lie_at_the_edges(values: list[float]) -> None:
    """However near to each other or far apart they are, the greatest is at the top and the least at the bottom."""
    drawn = dots(draw(values))

    assert drawn[0][0] == drawn[-1][-1] == (values[0] > values[1])
    assert drawn[-1][0] == drawn[0][-1] == (values[0] < values[1])


def test_a_gap_stays_empty() -> None:
    """Where there is no value there is no dot, and no line leads across."""
    drawn = dots(draw([1.0] * 40 + [NAN] * 40 + [2.0] * 40))
    filled = [any(row[x] for row in drawn) for x in range(len(drawn[0]))]
    third = len(filled) // 3

    assert all(filled[: third - 1])
    assert not any(filled[third + 1 : 2 * third - 1])
    assert all(filled[2 * third + 1 :])


@pytest.mark.parametrize(
    ("values", "hours", "scale"),
    [
        ([1.0, 9.0] * 720, 24, "-24 -18 -12 -6 0"),
        ([1.0, 9.0] * 270, 9, "-8 -6 -4 -2 0"),
        ([1.0, 9.0] * 30, 1, "-60 -50 -40 -30 -20 -10 0"),
        ([1.0, 9.0], 2 / 60, "-2 -1 0"),
        ([5.0], 1 / 60, "-1 0"),
        ([1.0, 9.0] * 720, 720, "-576 -384 -192 0"),
    ],
)
def test_the_scale_has_round_steps(values: list[float], hours: float, scale: str) -> None:
    """Hours are told in hours, less than three in minutes, and the last column is the end."""
    *_, numbers, title = draw(values, hours=hours).splitlines()

    assert numbers.split() == scale.split()
    assert title.split()[0] == ("hours" if hours >= 3 else "minutes")
    assert len(numbers) == len(title) == WIDTH


def test_the_values_scale_spans_the_values() -> None:
    """The top is the greatest value, the bottom the least; a constant lies in the middle of one percent around it."""
    labels = [re.match(r"^ *(\S*) ", line)[1] for line in draw([100.0, 170.0], height=8).splitlines()[:8]]
    constant = draw([1000.0] * 5, height=7).splitlines()

    assert labels == ["170", "", "", "140", "", "", "110", ""]
    assert constant[0].startswith("1010 ┤")
    assert constant[3].startswith("1000 ┤⠤⠤")
    assert all(len(line) == WIDTH for line in constant)
