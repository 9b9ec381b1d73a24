"""What the client returns: plain values and numpy arrays, no messages.

What comes by the thousand is a named tuple: made in a third of a frozen dataclass's time, and its class in a fifth.
"""

from __future__ import annotations

import datetime as dt
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Times = NDArray[np.datetime64]


class TimeRange(NamedTuple):
    """A half-open range of whole minutes, [start, end), in UTC."""

    start: dt.datetime
    end: dt.datetime


class MeasureSummary(NamedTuple):
    """What the last 24 hours hold of one measure of a metric."""

    measure: str
    last_time: dt.datetime
    """The slot of the newest point."""
    last_value: float
    """In the measure's unit."""
    point_count: int
    """How many of the 1440 slots have a point."""
    coverage: float
    """point_count / 1440."""


class Metric(NamedTuple):
    """A metric with a point in the last 24 hours."""

    name: str
    exchange: str
    pair: str
    measures: tuple[MeasureSummary, ...]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One series, dense: `values[i]` belongs to [start + i * interval, start + (i + 1) * interval)."""

    metric: str
    measure: str
    start: dt.datetime
    interval: dt.timedelta
    floats: array[float]
    """The values as they came, for whoever does without numpy, which takes a while to be imported."""
    missing: tuple[TimeRange, ...]
    """The slots without a point."""
    backfilled: tuple[TimeRange, ...]
    """The slots whose point was filled in later."""
    coverage: float
    """The share of the range's slots that have a point, from 0 to 1."""

    @property
    def values(self) -> Floats:
        """In the measure's unit, NaN where the interval has no point; a read-only view of `floats`."""
        import numpy as np  # noqa: PLC0415  # as in `client`

        return np.frombuffer(memoryview(self.floats).toreadonly(), np.float64)

    @property
    def times(self) -> Times:
        """The start of each interval, in UTC, as datetime64[m]."""
        import numpy as np  # noqa: PLC0415  # as in `client`

        first = np.datetime64(self.start.replace(tzinfo=None), "m")
        return first + np.arange(len(self.floats)) * np.timedelta64(self.interval // dt.timedelta(minutes=1), "m")


class Ranking(NamedTuple):
    """One metric's place."""

    metric: str
    rank: int
    """From 1; equal values share a rank, and the next counts them all (1, 2, 2, 4)."""
    value: float
    """The statistic."""
    point_count: int
    coverage: float


class Rankings(NamedTuple):
    """Metrics by descending value of a statistic."""

    measure: str
    statistic: str
    window: TimeRange
    rankings: tuple[Ranking, ...]
    ranked_count: int
    """How many metrics are ranked, those beyond the asked limit included."""
    unranked: tuple[str, ...]
    """The metrics that have the measure but too few points for the statistic."""


@dataclass(frozen=True, slots=True, eq=False)
class PointBatch:
    """New points of one slot, as columns: point i is value i of measure i of metric i.

    A point of a series and slot replaces an earlier one. Without points (`len(batch) == 0`) it is a bookmark.
    """

    cursor: str
    """Resumes a watch after this batch."""
    time: dt.datetime | None
    """The slot, in UTC; None in a bookmark."""
    metrics: tuple[str, ...]
    measures: tuple[str, ...]
    values: Floats
    backfilled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)
