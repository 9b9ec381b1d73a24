"""The memory of the hot window: rows of rings in blocks that are never moved, one table a measure.

It knows slots only as columns of a ring; which of them are in use is the window's business.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.core.model import DAY_SLOTS, Floats, Qualities

HOT_SLOTS = DAY_SLOTS + 60
"""What is promised: a day, and the hour for which a page token holds its window still."""

RING_SLOTS = HOT_SLOTS + 36
"""What is kept. The slack lets points run ahead of the window's end without pushing out what is promised."""

Places = NDArray[np.int64]


class Block:
    """Some rows of one measure. Memory of rows not yet used is not touched, so it costs nothing."""

    def __init__(self, rows: int) -> None:
        self.values: Floats = np.empty((rows, RING_SLOTS), np.float64)
        self.qualities: Qualities = np.zeros((rows, RING_SLOTS), np.uint8)
        self.used = 0

    def add_row(self) -> int:
        """Take the next free row."""
        self.values[self.used] = np.nan
        self.used += 1
        return self.used - 1


class Table:
    """The rows of one measure.

    XXX: a series that has ended keeps its row until the process ends or reads the window anew.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.blocks: list[Block] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._by_name: Places | None = None

    def place(self, name: str) -> tuple[int, int] | None:
        """Return the row's block and its place there."""
        return self._places.get(name)

    def places(self, names: list[str]) -> Places:
        """Return block and place of rows that are there, shape (names, 2)."""
        return np.array([self._places[name] for name in names], np.int64)

    def add(self, names: list[str]) -> None:
        """Give each name that has no row one; a block is added for as many as do not fit, and an eighth more."""
        missing = [name for name in names if name not in self._places]
        for done, name in enumerate(missing):
            if not self.blocks or self.blocks[-1].used == len(self.blocks[-1].values):
                self.blocks.append(Block(max(len(missing) - done, len(self.names) // 8)))
            self._places[name] = (len(self.blocks) - 1, self.blocks[-1].add_row())
            self.names.append(name)
        if missing:
            self._by_name = None

    @property
    def by_name(self) -> Places:
        """The rows in ascending order of their names."""
        if self._by_name is None:
            self._by_name = np.array(sorted(range(len(self.names)), key=self.names.__getitem__), np.int64)
        return self._by_name


def run_or_all(indices: Places) -> slice | Places:
    """Return evenly spaced indices as a slice, which numpy copies by several times faster."""
    steps = np.diff(indices)
    if len(steps) and (steps == steps[0]).all() and steps[0] > 0:
        return slice(int(indices[0]), int(indices[-1]) + 1, int(steps[0]))
    return indices
