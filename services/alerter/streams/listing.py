"""What the log of breaches has of the past, a page at a time. Pure of any wire format."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from services.alerter.streams.filtering import EventFilter
from services.alerter.streams.following import PAGE_ENTRIES
from services.core.breaches import Event, Position
from services.core.errors import InvalidInputError
from services.core.model import Slot, slot_time
from services.core.store.base import BreachLog
from services.core.store.gate import StoreGate

MOST_SCANNED = 20_000
"""A page ends after so many entries even if few were asked for: no call goes through a month of the log."""

_AHEAD_SLOTS = 2
"""How far an event's slot may lie ahead of the slot that the log was at: points come before their slot is closed."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which events: those that the filter passes, of slots in [start, end), before a position."""

    wanted: EventFilter
    start: Slot | None = None
    end: Slot | None = None
    before: Position | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.end < self.start:
            raise InvalidInputError(
                "end_time",
                f"the range would end at {slot_time(self.end):%Y-%m-%d %H:%M} UTC, before it starts at "
                f"{slot_time(self.start):%Y-%m-%d %H:%M} UTC",
                "start_time at or before end_time",
            )

    def passes(self, event: Event) -> bool:
        """Whether an event is among them, wherever it stands."""
        return (
            (self.start is None or event.slot >= self.start)
            and (self.end is None or event.slot < self.end)
            and self.wanted.passes(event)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Events, the newest first, and the position before which to read on; None when there is nothing more."""

    events: tuple[Event, ...]
    before: Position | None


def list_breaches(
    log: BreachLog, gate: StoreGate, query: ListQuery, size: int, remaining_seconds: Callable[[], float]
) -> Page:
    """Return up to `size` events in the reverse of the order in which they were found; fewer do not mean the end."""
    found: list[Event] = []
    here, scanned, chunk = query.before, 0, min(size + 1, PAGE_ENTRIES)
    last: Position | None = None
    while scanned < MOST_SCANNED:
        entries = gate.read(functools.partial(log.read_before, here, chunk), remaining_seconds())
        for entry in entries:
            if query.start is not None and entry.position.slot + _AHEAD_SLOTS < query.start:
                return Page(tuple(found), None)
            if query.passes(entry.event):
                if len(found) == size:
                    return Page(tuple(found), last)
                found.append(entry.event)
                last = entry.position
        if len(entries) < chunk:
            return Page(tuple(found), None)
        here, scanned, chunk = entries[-1].position, scanned + len(entries), PAGE_ENTRIES
    return Page(tuple(found), here)
