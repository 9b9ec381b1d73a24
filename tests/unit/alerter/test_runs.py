"""Rows of points back in line, read from bits, are those that counting one point after another finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.alerter.evaluation.runs import NO_PLACE, WORD_BITS, first_enough, last_row, words_of

WORDS = st.lists(st.booleans(), min_size=WORD_BITS, max_size=WORD_BITS)


@given(
    flags=st.lists(st.tuples(WORDS, st.integers(1, WORD_BITS), st.integers(0, 40)), min_size=1, max_size=8),
    wanted=st.integers(1, 40),
)
def test_rows_of_bits_are_those_that_are_counted_one_by_one(flags, wanted):
    """Where enough in a row are complete first, and how many stand at the end, with those carried in from before."""
    lengths, carried = (np.array([each[place] for each in flags]) for place in (1, 2))
    words = words_of(np.array([word for word, _, _ in flags]), lengths)

    found = [_counted(word[:length], before, wanted) for word, length, before in flags]
    assert first_enough(words, carried, wanted).tolist() == [first for first, _ in found]
    assert last_row(words, lengths, carried).tolist() == [last for _, last in found]


def _counted(flags: list[bool], row: int, wanted: int) -> tuple[int, int]:
    first = NO_PLACE
    for place, flag in enumerate(flags):
        row = row + 1 if flag else 0
        if flag and row >= wanted and first == NO_PLACE:
            first = place
    return first, row
