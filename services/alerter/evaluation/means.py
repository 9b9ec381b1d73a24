"""Sums over sliding windows that are the same, bit for bit, wherever a stretch of slots is cut into blocks.

A running sum would carry its rounding errors along and depend on where it began. Here every window is summed by the
same tree of additions: sums of 2 from points, of 4 from sums of 2, and so on, and the window from the powers of two
that its length is made of, the greatest first (60 = 32 + 16 + 8 + 4). That is eight additions a point, and pairwise
summation besides, whose error is a few units in the last place of the sum of magnitudes (Higham, "The Accuracy of
Floating Point Summation", 1993).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Column = TypeVar("_Column", bound=np.generic)


def room_for_sums(count: int, window: int) -> NDArray[np.float64]:
    """Return room for the sums of so many values at a time; used again and again it stays in the processor's cache."""
    return np.empty((_doublings(window), count))


def sums_before(
    values: NDArray[_Column], window: int, room: NDArray[_Column] | None = None
) -> tuple[NDArray[_Column], int]:
    """Return the sums of the `window` slots before each slot from number `window` on, as one row, and its stride.

    Values are of shape (series, slots), each series' in one piece and all of them end to end. The sum before slot
    `window + i` of series r stands at `r * stride + i`; what stands between the series means nothing. It is one row
    because numpy goes along it in a third of the time that many short ones take. Wholes are summed exactly.
    """
    if values.shape[1] == window + 1:
        return last_sums(values[:, :-1], window), 1
    return neighbour_sums(values.reshape(-1)[:-1], window, room), values.shape[1]


def neighbour_sums(values: NDArray[_Column], window: int, room: NDArray[_Column] | None = None) -> NDArray[_Column]:
    """Return the sums of `window` neighbours in a row, two or more: result i is of the places [i, i + window).

    They stand in `room`, where it is given, until it is used again.
    """
    if len(values) < window:
        raise ValueError(f"a window of {window} slots does not fit into {len(values)}")
    count = len(values) - window + 1
    if room is None:
        room = np.empty((_doublings(window), len(values)), values.dtype)
    sums = values
    parts = [sums]
    for level in range(_doublings(window)):
        size = 1 << level
        sums = np.add(sums[:-size], sums[size:], out=room[level, : len(sums) - size])
        parts.append(sums)
    total = sums[:count]
    for level in reversed(range(_doublings(window))):
        if window >> level & 1:
            # The greater powers of two, summed already, cover so many of the window's first slots.
            offset = window >> level + 1 << level + 1
            np.add(total, parts[level][offset : offset + count], out=total)
    return total


def last_sums(values: NDArray[_Column], window: int) -> NDArray[_Column]:
    """Return the sums of the last `window` slots of each series; the same tree, only where it is needed."""
    if values.shape[1] < window:
        raise ValueError(f"a window of {window} slots does not fit into {values.shape[1]}")
    parts: list[NDArray[Any]] = []
    sums: NDArray[Any] = values[:, values.shape[1] - window :]
    while window:
        # Every block of a power of two begins at a multiple of its size, counted from where the greater ones end.
        if window & 1:
            parts.append(sums[:, -1])
            sums = sums[:, :-1]
        window >>= 1
        if window:
            sums = sums[:, 0::2] + sums[:, 1::2]
    total = parts.pop()
    while parts:
        total = total + parts.pop()
    return total


def _doublings(window: int) -> int:
    """Return how often one is doubled to the greatest power of two within the window."""
    return window.bit_length() - 1
