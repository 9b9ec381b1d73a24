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


def window_sums(values: NDArray[_Column], window: int) -> NDArray[_Column]:
    """Return the sums of `window` neighbours: of shape (series, slots), result i is of the slots [i, i + window).

    The result has `window - 1` slots less; there must be at least one. Wholes are summed exactly.
    """
    count = values.shape[1] - window + 1
    if count < 1:
        raise ValueError(f"a window of {window} slots does not fit into {values.shape[1]}")
    return _one(values, window) if count == 1 else _many(values, window, count)


def _many(values: NDArray[Any], window: int, count: int) -> NDArray[Any]:
    levels: dict[int, NDArray[Any]] = {}
    size, sums = 1, values
    while True:
        if window & size:
            levels[size] = sums
        if size * 2 > window:
            break
        sums = sums[:, :-size] + sums[:, size:]
        size *= 2
    offset, total = 0, None
    for size in sorted(levels, reverse=True):
        part = levels[size][:, offset : offset + count]
        total = part if total is None else total + part
        offset += size
    return total if total is not values else values[:, :count].copy()  # type: ignore[return-value]  # window >= 1


def _one(values: NDArray[Any], window: int) -> NDArray[Any]:
    # The same tree, only where it is needed: every block of a power of two begins at a multiple of its size.
    parts: list[NDArray[Any]] = []
    sums = values
    while window:
        if window & 1:
            parts.append(sums[:, -1:])
            sums = sums[:, :-1]
        window >>= 1
        if window:
            sums = sums[:, 0::2] + sums[:, 1::2]
    total = parts.pop()
    while parts:
        total = total + parts.pop()
    return total
