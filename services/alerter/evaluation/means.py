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


def sums_before(values: NDArray[_Column], window: int) -> tuple[NDArray[_Column], int]:
    """Return the sums of the `window` slots before each slot from number `window` on, as one row, and its stride.

    Values are of shape (series, slots), each series' in one piece and all of them end to end. The sum before slot
    `window + i` of series r stands at `r * stride + i`; what stands between the series means nothing. It is one row
    because numpy goes along it in a third of the time that many short ones take. Wholes are summed exactly.
    """
    if values.shape[1] == window + 1:
        return last_sums(values[:, :-1], window), 1
    return neighbour_sums(values.reshape(-1)[:-1], window), values.shape[1]


def neighbour_sums(values: NDArray[_Column], window: int) -> NDArray[_Column]:
    """Return the sums of `window` neighbours in a row, two or more: result i is of the places [i, i + window)."""
    if len(values) < window:
        raise ValueError(f"a window of {window} slots does not fit into {len(values)}")
    count = len(values) - window + 1
    levels: dict[int, NDArray[Any]] = {}
    size, sums = 1, values
    while True:
        if window & size:
            levels[size] = sums
        if size * 2 > window:
            break
        sums = sums[:-size] + sums[size:]  # type: ignore[operator]  # they are numbers
        size *= 2
    offset, total = 0, np.zeros(1, values.dtype)
    for size in sorted(levels, reverse=True):
        part = levels[size][offset : offset + count]
        total = total + part if offset else part
        offset += size
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
