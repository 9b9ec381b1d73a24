"""The last hours of every series, dense: what live evaluation looks back on.

One table, one row a series, one column a slot; it moves on by dropping its oldest columns. One thread uses it. It knows
no rules.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from services.core.model import Floats, Indices, Points, Series, Slot, Slots, WindowColumns

_SPARE_SLOTS = 120
_SPARE_ROWS = 64


class Recent:
    """Values from `start` to before `end`, NaN where there is no point; at least `keep` slots of them."""

    def __init__(self, keep: int, end: Slot) -> None:
        self._keep = keep
        self.start = Slot(end - keep)
        self.end = end
        self.series: list[Series] = []
        self._places: dict[Series, int] = {}
        self._last: tuple[Series, ...] = ()
        self._last_rows: Indices = np.empty(0, np.int32)
        self._table: Floats = np.full((_SPARE_ROWS, keep + _SPARE_SLOTS), np.nan)

    @property
    def values(self) -> Floats:
        """The table, (series, end - start); a view that holds until the next call that changes it."""
        return self._table[: len(self.series), : self.end - self.start]

    def place(self, series: Series) -> int | None:
        """Return the series' row, or None where it has none."""
        return self._places.get(series)

    def add(self, series: Iterable[Series]) -> Indices:
        """Return the rows of these series, new ones at the end for those without."""
        places = []
        for each in series:
            place = self._places.get(each)
            if place is None:
                place = self._places[each] = len(self.series)
                self.series.append(each)
            places.append(place)
        if len(self.series) > len(self._table):
            more = max(len(self.series) - len(self._table), len(self._table) // 2)
            self._table = np.concatenate([self._table, np.full((more, self._table.shape[1]), np.nan)])
        return np.array(places, np.int32)

    def advance(self, end: int) -> None:
        """Make room up to before `end`; nothing happens where there is already."""
        if end <= self.end:
            return
        if end - self.start > self._table.shape[1]:
            start = end - self._keep
            gone = start - self.start
            width = max(0, self.end - start)
            moved = self._table[:, gone : gone + width].copy() if width else self._table[:, :0]
            self._table[:, :width] = moved
            self._table[:, width:] = np.nan
            self.start = Slot(start)
        self.end = Slot(end)

    def fill(self, columns: WindowColumns) -> None:
        """Put in what a store has; slots outside are left out."""
        rows = self.add(columns.series)
        first, last = max(columns.window.start, self.start), min(columns.window.end, self.end)
        if first < last:
            part = columns.values[:, first - columns.window.start : last - columns.window.start]
            self._table[rows, first - self.start : last - self.start] = part

    def apply(self, points: Points) -> tuple[Indices, Slots, Floats]:
        """Put points in and return for each its row, its slot and what stood there before (NaN: nothing, or too old).

        Points before `start` are not put in; those at or after `end` must not come.
        """
        # One slot's series are mostly those of the slot before, and comparing takes a hundredth of looking each up.
        if points.series != self._last:
            self._last, self._last_rows = points.series, self.add(points.series)
        rows = self._last_rows[points.series_index]
        inside = points.slots >= self.start
        before = np.full(len(points), np.nan)
        at = (rows[inside], points.slots[inside] - self.start)
        before[inside] = self._table[at]
        self._table[at] = points.values[inside]
        return rows, points.slots, before
