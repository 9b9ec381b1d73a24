"""Points, moments and stores for tests of the stores and of what stands on them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from services.core.model import SLOT_SECONDS, Measure, Points, Quality, Series, Slot, slot_at

NOON = 1_700_000_000 // 86_400 * 86_400 + 12 * 3600
"""12:00:00 UTC of a day, in seconds since the epoch: when most store tests take place."""
NOON_SLOT = slot_at(NOON)

BTC = Series("KRAKEN:BTCUSD", Measure.PRICE)
BTC_VOLUME = Series("KRAKEN:BTCUSD", Measure.VOLUME)
ETH = Series("KRAKEN:ETHUSD", Measure.PRICE)
XRP = Series("KRAKEN:XRPUSD", Measure.PRICE)

Row = tuple[Series, int, float, Quality]


def observed(series: Series, *values: float, start: int = NOON_SLOT) -> Points:
    """Points of one series in successive slots from `start`, each OBSERVED."""
    return Points.of((series, start + place, value, Quality.OBSERVED) for place, value in enumerate(values))


def backfilled(series: Series, *values: float, start: int = NOON_SLOT) -> Points:
    """Points of one series in successive slots from `start`, each BACKFILLED."""
    return Points.of((series, start + place, value, Quality.BACKFILLED) for place, value in enumerate(values))


def rows_of(points: Points) -> list[Row]:
    """The points one by one, as plain values that compare."""
    return list(points.rows())


def market(metrics: int, start: int, length: int, *, measures: Iterable[Measure] = Measure, seed: int = 0) -> Points:
    """A seeded market without holes: `metrics` x measures x `length` slots from `start`, series by series."""
    series = tuple(Series(f"SIM:M{number:04}", measure) for number in range(metrics) for measure in measures)
    count = len(series) * length
    values = np.round(100 + np.random.default_rng(seed).standard_normal(count).cumsum() / 100, 6)
    return Points(
        series,
        np.repeat(np.arange(len(series), dtype=np.int32), length),
        np.tile(np.arange(start, start + length, dtype=np.int64), len(series)),
        values,
        np.full(count, Quality.OBSERVED, np.uint8),
    )


def moment(slot: int) -> float:
    """The start of a slot, in seconds since the epoch."""
    return float(Slot(slot) * SLOT_SECONDS)
