"""The words of the domain as values: slots, windows, metrics, series, points and runs.

Pure: it knows no store, no exchange and no wire format. Points are kept as columns (numpy), because the product
moves a million of them at a time.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.core.words import (
    DAY_SLOTS,
    EARLIEST,
    LATEST,
    MEASURES,
    SIGNED_MEASURES,
    SLOT_SECONDS,
    Measure,
    Metric,
    Quality,
    Series,
    Slot,
    Window,
    last_complete_slot,
    slot_at,
    slot_time,
)

__all__ = [
    "DAY_SLOTS",
    "EARLIEST",
    "LATEST",
    "MEASURES",
    "SIGNED_MEASURES",
    "SLOT_SECONDS",
    "Floats",
    "Indices",
    "Measure",
    "Metric",
    "Outcome",
    "Points",
    "Qualities",
    "Quality",
    "Run",
    "Series",
    "SeriesColumns",
    "Slot",
    "Slots",
    "Window",
    "WindowColumns",
    "last_complete_slot",
    "slot_at",
    "slot_time",
]

Floats = NDArray[np.float64]
Slots = NDArray[np.int64]
Indices = NDArray[np.int32]
Qualities = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points as columns: point i is of `series[series_index[i]]`, in `slots[i]`, worth `values[i]`.

    All four columns have one length. Values are finite: a slot without a value has no point. The same series and slot
    may stand twice; then the later one counts. Nobody changes the arrays after construction.
    """

    series: tuple[Series, ...]
    series_index: Indices
    slots: Slots
    values: Floats
    qualities: Qualities

    def __post_init__(self) -> None:
        lengths = {len(self.series_index), len(self.slots), len(self.values), len(self.qualities)}
        if len(lengths) != 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        if not np.isfinite(self.values).all():
            raise ValueError("a point's value must be finite; leave out what is not known")

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, rows: Iterable[tuple[Series, int, float, Quality]]) -> Self:
        """Build columns from rows of series, slot, value and quality, in their order."""
        rows = list(rows)
        places: dict[Series, int] = {}
        index = np.fromiter((places.setdefault(row[0], len(places)) for row in rows), np.int32, len(rows))
        return cls(
            tuple(places),
            index,
            np.fromiter((row[1] for row in rows), np.int64, len(rows)),
            np.fromiter((row[2] for row in rows), np.float64, len(rows)),
            np.fromiter((row[3] for row in rows), np.uint8, len(rows)),
        )

    @classmethod
    def concatenate(cls, batches: Sequence[Points]) -> Self:
        """Join batches in their order."""
        places: dict[Series, int] = {}
        indices = []
        for batch in batches:
            mapping = np.fromiter(
                (places.setdefault(s, len(places)) for s in batch.series), np.int32, len(batch.series)
            )
            indices.append(mapping[batch.series_index] if len(batch) else np.empty(0, np.int32))
        return cls(
            tuple(places),
            np.concatenate([np.empty(0, np.int32), *indices]),
            np.concatenate([np.empty(0, np.int64), *(batch.slots for batch in batches)]),
            np.concatenate([np.empty(0, np.float64), *(batch.values for batch in batches)]),
            np.concatenate([np.empty(0, np.uint8), *(batch.qualities for batch in batches)]),
        )

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Points:
        """Return some of the points: those of a mask, or those at places in their order. All series stay named."""
        return Points(
            self.series, self.series_index[which], self.slots[which], self.values[which], self.qualities[which]
        )

    def rows(self) -> Iterable[tuple[Series, Slot, float, Quality]]:
        """Walk the points one by one; for small batches only."""
        columns = (self.series_index.tolist(), self.slots.tolist(), self.values.tolist(), self.qualities.tolist())
        for index, slot, value, quality in zip(*columns, strict=True):
            yield self.series[index], Slot(slot), value, Quality(quality)


@dataclass(frozen=True, slots=True, eq=False)
class SeriesColumns:
    """One series over a window, dense: `values[i]` and `qualities[i]` are of slot `window.start + i`.

    Where there is no point the value is NaN and the quality 0.
    """

    window: Window
    values: Floats
    qualities: Qualities


@dataclass(frozen=True, slots=True, eq=False)
class WindowColumns:
    """Many series over a window, dense: row r is of `series[r]`, column i of slot `window.start + i`.

    `values` and `qualities` have the shape (series, slots), C order. Where there is no point the value is NaN and the
    quality 0. Series are in ascending order; a series without a point in the window may be left out.
    """

    window: Window
    series: tuple[Series, ...]
    values: Floats
    qualities: Qualities


class Outcome(enum.StrEnum):
    """How a run fared on one exchange."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did on one exchange: the exchange's heartbeat. Identified by exchange, slot and shard."""

    exchange: str
    slot: Slot
    """The slot the run was scheduled to write."""
    finished_at: float
    """When it had written, in seconds since the epoch."""
    point_count: int
    """How many points of `slot` it wrote; repairs of other slots do not count."""
    outcome: Outcome
    error: str = ""
    """The exchange's own words about what failed; empty for OK."""
    shard: int = 0
