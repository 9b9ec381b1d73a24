"""What can be asked of the query service, and what is answered, as values; times are slots."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from services.core.model import DAY_SLOTS, Floats, Measure, Metric, Slot, Window
from services.core.ranking import Statistic

MOST_INTERVALS = 50_000
LONGEST_INTERVAL_SLOTS = DAY_SLOTS


class Aggregation(enum.StrEnum):
    """How the points within one interval become one value."""

    LAST = "last"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which series, and which part of it; None where the caller leaves it to the service."""

    metric: Metric
    measure: Measure
    start: Slot | None = None
    end: Slot | None = None
    interval_slots: int = 1
    aggregation: Aggregation = Aggregation.LAST


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One series, dense: value i is of the slots from `window.start + i * interval_slots` on."""

    window: Window
    interval_slots: int
    values: Floats
    missing: tuple[Window, ...]
    backfilled: tuple[Window, ...]
    coverage: float


@dataclass(frozen=True, slots=True)
class MeasureSummary:
    """What the last day holds of one series."""

    measure: Measure
    last_slot: Slot
    last_value: float
    point_count: int


@dataclass(frozen=True, slots=True)
class ListedMetric:
    """A metric with a point in the last day; measures in the order of the enumeration."""

    metric: str
    measures: tuple[MeasureSummary, ...]


@dataclass(frozen=True, slots=True)
class RankQuery:
    """What to rank by, and where to go on; `after` is the value and name of the last ranking already had."""

    measure: Measure
    statistic: Statistic = Statistic.STDDEV
    slots: int = DAY_SLOTS
    end: Slot | None = None
    after: tuple[float, str] | None = None


class Ranking(NamedTuple):
    """One metric's place; a tuple, because a page has thousands of them."""

    metric: str
    rank: int
    value: float
    point_count: int


@dataclass(frozen=True, slots=True)
class Rankings:
    """A page of a ranking, and what holds of the whole."""

    window: Window
    rankings: tuple[Ranking, ...]
    more: bool
    ranked_count: int
    unranked: tuple[str, ...]
