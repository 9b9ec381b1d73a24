"""What is known of one metric, minute by minute, and what follows from it.

A ledger starts with what the store holds, takes candles and tickers, derives the measures that need a day of history,
and tells which points are new. It never changes a point that the store has: so a run that is repeated, late or made
twice at once leaves the points as they are. Pure: no store, no exchange, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from services.collector.exchanges.base import Candles, Ticker
from services.core.model import (
    DAY_SLOTS,
    Floats,
    Measure,
    Points,
    Quality,
    Series,
    SeriesColumns,
    Slot,
    Slots,
    Window,
)


class Ledger:
    """One metric over a window; dense columns of its measures, NaN where there is no point."""

    def __init__(self, metric: str, window: Window, measures: Sequence[Measure]) -> None:
        """Begin with nothing; `measures` are those that may become points."""
        self.metric = metric
        self.window = window
        self._measures = tuple(measures)
        self._values = {measure: np.full(len(window), np.nan) for measure in Measure}
        self._qualities = {measure: np.zeros(len(window), np.uint8) for measure in Measure}
        self._stored = {measure: np.zeros(len(window), np.bool_) for measure in Measure}

    def add_stored(self, measure: Measure, columns: SeriesColumns) -> None:
        """Take what the store has of a measure in a part of the window."""
        part = self._slice(columns.window)
        self._values[measure][part] = columns.values
        self._qualities[measure][part] = columns.qualities
        self._stored[measure][part] = np.isfinite(columns.values)

    def value(self, measure: Measure, slot: int) -> float:
        """The value in a slot of the window; NaN where none is known."""
        return float(self._values[measure][slot - self.window.start])

    def holes(self, measure: Measure, window: Window) -> list[Slot]:
        """The slots of the window that have no value, ascending."""
        part = self._values[measure][self._slice(window)]
        return [Slot(window.start + i) for i in np.flatnonzero(np.isnan(part)).tolist()]

    def add_candles(self, candles: Candles, quality: Quality) -> None:
        """Take `price` and `volume_1m` of the minutes that have none."""
        inside = (candles.slots >= self.window.start) & (candles.slots < self.window.end)
        places = candles.slots[inside] - self.window.start
        self._fill(Measure.PRICE, places, candles.closes[inside], quality)
        self._fill(Measure.VOLUME_1M, places, candles.volumes[inside], quality)

    def add_ticker(self, ticker: Ticker, slot: Slot, quality: Quality, *, with_price: bool) -> None:
        """Take `volume`, and `price` where no candles could be read, of a slot that has none."""
        place = np.array([slot - self.window.start])
        if with_price:
            self._fill(Measure.PRICE, place, np.array([ticker.price]), quality)
        self._fill(Measure.VOLUME, place, np.array([ticker.volume_24h]), quality)

    def derive_volume(self, window: Window, quality: Quality) -> None:
        """Sum up the day of each slot that has no `volume` and whose 1440 minutes are all known.

        The sum is the exact one, correctly rounded, so that it does not depend on who adds up when.
        """
        minutes = self._values[Measure.VOLUME_1M]
        known = np.concatenate([[0], np.cumsum(np.isfinite(minutes))])
        for slot in self.holes(Measure.VOLUME, window):
            end = slot + 1 - self.window.start
            if end >= DAY_SLOTS and known[end] - known[end - DAY_SLOTS] == DAY_SLOTS:
                total = math.fsum(minutes[end - DAY_SLOTS : end].tolist())
                self._fill(Measure.VOLUME, np.array([end - 1]), np.array([total]), quality)

    def derive_change(self, window: Window, quality: Quality, closes_before: Mapping[Slot, float]) -> None:
        """Compare each slot that has no change with the price 1440 slots earlier, where both are known.

        The earlier price is the ledger's, else one of `closes_before`.
        """
        incomplete = {*self.holes(Measure.CHANGE_ABSOLUTE, window), *self.holes(Measure.CHANGE_PERCENTAGE, window)}
        for slot in sorted(incomplete):
            before = self._price_before(slot, closes_before)
            change = self.value(Measure.PRICE, slot) - before
            if math.isfinite(change):
                place = np.array([slot - self.window.start])
                self._fill(Measure.CHANGE_ABSOLUTE, place, np.array([change]), quality)
                self._fill(Measure.CHANGE_PERCENTAGE, place, np.array([100 * change / before]), quality)

    def unknown_before(self, window: Window, *, new_only: bool) -> list[Slot]:
        """The slots whose price would complete the changes of the window: 1440 slots earlier, unknown here.

        With `new_only`, of those slots whose own price the store does not have yet.
        """
        stored = self._stored[Measure.PRICE]
        return [
            Slot(slot - DAY_SLOTS)
            for slot in self.holes(Measure.CHANGE_ABSOLUTE, window)
            if math.isfinite(self.value(Measure.PRICE, slot))
            and not (new_only and stored[slot - self.window.start])
            and math.isnan(self._price_before(slot, {}))
        ]

    def new_points(self, confirmed: Window) -> Points:
        """Return the points that the store lacks, and again those it has of the `confirmed` slots, as they are."""
        batches = [self._points(measure, confirmed) for measure in self._measures]
        return Points.concatenate(batches)

    def mark_stored(self) -> None:
        """Take everything known for stored: what `new_points` returned has been written."""
        self._stored = {measure: np.isfinite(values) for measure, values in self._values.items()}

    def _points(self, measure: Measure, confirmed: Window) -> Points:
        wanted = np.isfinite(self._values[measure])
        again = self._slice(confirmed)
        keep = wanted[again].copy()
        wanted &= ~self._stored[measure]
        wanted[again] = keep
        places = np.flatnonzero(wanted)
        return Points(
            (Series(self.metric, measure),),
            np.zeros(len(places), np.int32),
            places.astype(np.int64) + self.window.start,
            self._values[measure][places],
            self._qualities[measure][places],
        )

    def _fill(self, measure: Measure, places: Slots, values: Floats, quality: Quality) -> None:
        vacant = np.isnan(self._values[measure][places])
        self._values[measure][places[vacant]] = values[vacant]
        self._qualities[measure][places[vacant]] = quality

    def _price_before(self, slot: Slot, closes_before: Mapping[Slot, float]) -> float:
        before = Slot(slot - DAY_SLOTS)
        own = self.value(Measure.PRICE, before) if before in self.window else math.nan
        return own if math.isfinite(own) else closes_before.get(before, math.nan)

    def _slice(self, window: Window) -> slice:
        start = min(max(window.start, self.window.start), self.window.end)
        end = max(start, min(window.end, self.window.end))
        return slice(start - self.window.start, end - self.window.start)
