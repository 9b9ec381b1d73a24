"""Rows of points back in line, read from bits: sixteen points of a series are one word, its first point the lowest bit.

A word takes a few operations where as many flags would take some for each of them, and how fast episodes are followed
decides how fast history is replayed. It knows nothing of levels, series or episodes.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.alerter.evaluation.states import Counts, Flags, Places

WORD_BITS = 16
NO_PLACE = WORD_BITS
"""A place in a word that is none."""

Words: TypeAlias = NDArray[np.uint16]

_LOWEST = ((1 << np.arange(WORD_BITS + 1)) - 1).astype(np.uint16)
"""Element n: the n lowest bits."""


def words_of(flags: Flags, lengths: Counts) -> Words:
    """Return flags of shape (words, WORD_BITS) as words; of each the first so many count, the others are clear."""
    words: Words = np.packbits(flags.reshape(-1), bitorder="little").view("<u2") & _LOWEST[lengths]
    return words


def first_enough(words: Words, carried: Counts, wanted: int) -> Places:
    """Return where so many set bits in a row are complete for the first time, or NO_PLACE.

    `carried` bits in a row were set right before each word.
    """
    begun = np.maximum(wanted - carried, 1) - 1
    starts, length = words, 1
    while length < wanted and length < WORD_BITS:
        step = min(length, wanted - length)
        starts = starts & (starts >> np.uint16(step))
        length += step
    # Bit i of `starts` says that a row of `wanted` begins there.
    inside = np.bitwise_count((starts & -starts) - np.uint16(1)).astype(np.intp) + wanted - 1
    inside[inside >= WORD_BITS] = NO_PLACE
    return np.where(begun < _leading(words), begun, inside)


def last_row(words: Words, lengths: Counts, carried: Counts) -> Counts:
    """Return how many bits in a row are set at the end of the first `lengths` (1 or more), those carried included."""
    aligned = words << (WORD_BITS - lengths).astype(np.uint16)
    # The exponent of a whole number is how many bits it has.
    row = WORD_BITS - np.frexp((~aligned).astype(np.float32))[1].astype(np.int64)
    return np.where(row == lengths, row + carried, row)


def _leading(words: Words) -> Counts:
    """Return how many of the lowest bits are set without a gap."""
    return np.bitwise_count(words & ~(words + np.uint16(1))).astype(np.int64)
