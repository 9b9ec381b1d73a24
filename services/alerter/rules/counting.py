"""How often each rule has fired, as the log of breaches says: read once when somebody first asks, then kept.

Pure of any wire format. Its two sides run in different threads: the follower's `restart` and `add` never wait for the
store, of which `counts` may ask much.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from services.core.breaches import EventKind, LogEntry, Position, event_id
from services.core.model import DAY_SLOTS, Slot
from services.core.store.base import RETENTION_DAYS

READ_ENTRIES = 2000

ReadBefore = Callable[[Position, int], tuple[LogEntry, ...]]
"""Returns the last so many entries before a position, the newest first."""


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How a rule has fired."""

    last_breach: Slot
    """The slot of its last breach."""
    day_count: int
    """How many points have broken it in the last 24 hours."""


class BreachTally:
    """Breaches by rule and slot; late ones count, withdrawn ones do not."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._reading = threading.Lock()
        self._unread: Position | None = None
        self._slots: dict[str, collections.Counter[int]] = {}

    def restart(self, end: Position) -> None:
        """Forget all: what lies before `end` is to be read, what follows comes by `add`."""
        with self._guard:
            self._unread, self._slots = end, {}

    def add(self, entries: Iterable[LogEntry]) -> None:
        """Count entries."""
        with self._guard:
            self._count(entries)

    def counts(self, read_before: ReadBefore, now: Slot) -> Mapping[str, RuleCount]:
        """Return the counts of the rules that have fired, the last 24 hours being those up to and with slot `now`.

        Raises what `read_before` raises; called again it goes on where it was.
        """
        with self._reading:
            while (unread := self._unread) is not None:
                entries = read_before(unread, READ_ENTRIES)
                with self._guard:
                    if self._unread == unread:  # else it was restarted meanwhile
                        self._count(entries)
                        self._unread = entries[-1].position if len(entries) == READ_ENTRIES else None
        with self._guard:
            return {rule: count for rule, slots in self._slots.items() if (count := _summary(slots, now))}

    def _count(self, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            event = entry.event
            breached = event_id(event.rule, event.subject, event.slot, EventKind.BREACH)
            change = (event.id == breached) - (event.withdrawn_id == breached)
            if change:
                self._slots.setdefault(event.rule, collections.Counter())[event.slot] += change


def _summary(slots: collections.Counter[int], now: Slot) -> RuleCount | None:
    """Sum up one rule's breaches; what lies beyond the log's retention is forgotten."""
    for slot in [slot for slot in slots if slot < now - RETENTION_DAYS * DAY_SLOTS]:
        del slots[slot]
    fired = [slot for slot, count in slots.items() if count > 0]
    if not fired:
        return None
    return RuleCount(Slot(max(fired)), sum(slots[slot] for slot in fired if slot > now - DAY_SLOTS))
