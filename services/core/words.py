"""The plain words of the domain: slots, measures, metrics, series, windows.

Apart from `model`, which has them too, for whoever names things and holds no columns: the command line and the readers
of rules start in a fraction of the time that numpy takes to be imported. Pure, as `model` is.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NewType, Self

from services.core import names
from services.core.errors import InvalidInputError

Slot = NewType("Slot", int)
"""One minute of UTC, as minutes since 1970-01-01 00:00 UTC."""

SLOT_SECONDS = 60
DAY_SLOTS = 1440

EARLIEST = Slot(0)
LATEST = Slot(68_374_080)
"""Times lie from 1970 to 2100: what is farther away is a mistake in the units."""

_METRIC_NAME = re.compile(names.METRIC)


class Measure(enum.StrEnum):
    """What is measured of a metric in a slot; units stand in DESIGN's words and in query.proto."""

    PRICE = "price"
    VOLUME = "volume"
    CHANGE_ABSOLUTE = "change_absolute"
    CHANGE_PERCENTAGE = "change_percentage"
    VOLUME_1M = "volume_1m"


MEASURES: tuple[Measure, ...] = tuple(Measure)
SIGNED_MEASURES = frozenset({Measure.CHANGE_ABSOLUTE, Measure.CHANGE_PERCENTAGE})
"""The measures that may be negative; of the others a negative value is an exchange's error."""


class Quality(enum.IntEnum):
    """Where a point comes from. In columns, 0 stands where there is no point."""

    OBSERVED = 1
    BACKFILLED = 2


def slot_at(seconds: float) -> Slot:
    """Return the slot that this moment (seconds since the epoch) lies in."""
    return Slot(int(seconds // SLOT_SECONDS))


def last_complete_slot(seconds: float) -> Slot:
    """Return the newest slot that has ended by this moment (seconds since the epoch)."""
    return Slot(int(seconds // SLOT_SECONDS) - 1)


def slot_time(slot: int) -> datetime:
    """Return the slot's start as an aware datetime."""
    return datetime.fromtimestamp(slot * SLOT_SECONDS, UTC)


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """An exchange and a pair; both upper case."""

    exchange: str
    pair: str

    @property
    def name(self) -> str:
        """EXCHANGE:PAIR."""
        return f"{self.exchange}:{self.pair}"

    @classmethod
    def parse(cls, name: str, field: str = "metric") -> Self:
        """Read EXCHANGE:PAIR; raise InvalidInputError naming `field` for anything else."""
        if not _METRIC_NAME.fullmatch(name):
            raise InvalidInputError(
                field, f"{name!r} is not a metric name", "EXCHANGE:PAIR in capitals, as in KRAKEN:BTCUSD"
            )
        exchange, _, pair = name.partition(":")
        return cls(exchange, pair)


@dataclass(frozen=True, slots=True)
class Series:
    """A metric's name and a measure. Ordered by name, then by the measure's place in the enumeration."""

    metric: str
    measure: Measure

    def __lt__(self, other: Series) -> bool:
        return self.sort_key < other.sort_key

    @property
    def sort_key(self) -> tuple[str, int]:
        """What series are ordered by."""
        return (self.metric, MEASURES.index(self.measure))


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open range of slots, [start, end)."""

    start: Slot
    end: Slot

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise InvalidInputError(
                "window", f"it ends at {slot_time(self.end)}, before its start {slot_time(self.start)}"
            )

    def __len__(self) -> int:
        return self.end - self.start

    def __contains__(self, slot: int) -> bool:
        return self.start <= slot < self.end

    @classmethod
    def ending(cls, end: int, length: int = DAY_SLOTS) -> Self:
        """The window of so many slots before `end`, which it excludes."""
        return cls(Slot(end - length), Slot(end))
