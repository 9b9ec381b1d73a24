"""Follows the log of breaches and hands every new entry to the open streams, on every replica alike.

The log alone decides what streams say: whoever has appended to it, here or elsewhere, the same entries come in the same
order. It knows no wire format and no rules; whoever composes it says what health and streams are.

Threads: one thread steps; everything but `step` may be called from any.
"""

from __future__ import annotations

import collections
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from services.alerter.streams.cursors import cursor_text
from services.core.breach_documents import AlertState, state_from_text
from services.core.breaches import Checkpoint, LogEntry, Position
from services.core.broadcasting import Batch, Broadcast, Subscriber
from services.core.clock import Clock
from services.core.errors import CursorExpiredError, LogMovedError, NotReadyError, StoreError, StoreRefusedError
from services.core.model import SLOT_SECONDS, Slot
from services.core.store.base import BreachLog
from services.core.telemetry import AlertStreamMetrics

_log = logging.getLogger(__name__)

BEHIND_SECONDS = 180.0
"""Rules whose evaluation ended this long ago are behind: three slots, two more than a slot takes to be closed."""

PAGE_ENTRIES = 1000
RECENT_ENTRIES = 10_000
"""What is kept for streams that resume: after a restart all come back at once, and few should need the store."""

_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a log has been read: to the end of a checkpoint, and what its writer said of that place."""

    log_id: str
    position: Position
    state: AlertState

    @property
    def cursor(self) -> str:
        """Resumes a stream from here."""
        return cursor_text(self.log_id, self.position)

    @property
    def next_slot(self) -> Slot:
        """The slot after the last that has been evaluated for every series."""
        return Slot(self.state.evaluated + 1)


Entries = tuple[LogEntry, ...]
BreachBatch = Batch[Entries, Reached]
BreachSubscriber = Subscriber[Entries, Reached]
BreachBroadcast = Broadcast[Entries, Reached]


class LogFollower:
    """A thread that reads the log. `caught_up` is done once evaluation has been seen to be at the present.

    It fails with StoreRefusedError when the store refuses the very first read, because waiting will not help; a store
    that is away, and a log that nobody has begun, are waited for. `on_begin` is told where a log begins to be followed,
    `on_entries` what comes from there on.
    """

    def __init__(
        self,
        log: BreachLog,
        broadcast: BreachBroadcast,
        *,
        clock: Clock,
        metrics: AlertStreamMetrics,
        on_health: Callable[[bool], None] = lambda _serving: None,
        on_begin: Callable[[Position], None] = lambda _end: None,
        on_entries: Callable[[Sequence[LogEntry]], None] = lambda _entries: None,
        poll_interval_seconds: float = 1.0,
        behind_seconds: float = BEHIND_SECONDS,
    ) -> None:
        self._log = log
        self._broadcast = broadcast
        self._clock = clock
        self._metrics = metrics
        self._on_health = on_health
        self._on_begin = on_begin
        self._on_entries = on_entries
        self._interval = poll_interval_seconds
        self._behind_after = behind_seconds
        self._checkpoint: Checkpoint | None = None
        self._reached: Reached | None = None
        self._read_at: float | None = None
        self._failures = 0
        self._guard = threading.Lock()
        self._recent: collections.deque[LogEntry] = collections.deque(maxlen=RECENT_ENTRIES)
        self._recent_from: Position | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.caught_up: Future[None] = Future()

    @property
    def lag_seconds(self) -> float:
        """Time since the log was last read to its end; infinite before the first time."""
        return float("inf") if self._read_at is None else max(0.0, self._clock.now() - self._read_at)

    @property
    def behind_seconds(self) -> float:
        """Time since the end of the newest slot known to be evaluated; infinite before the first."""
        if self._reached is None:
            return float("inf")
        return max(0.0, self._clock.now() - self._reached.next_slot * SLOT_SECONDS)

    def require_state(self) -> AlertState:
        """Return what the newest checkpoint says; raises NotReadyError until evaluation has once caught up."""
        if self._reached is None or not self.caught_up.done():
            raise NotReadyError("rules are still being evaluated up to the present")
        return self._reached.state

    def start(self) -> None:
        """Begin following in a thread of its own."""
        self._thread = threading.Thread(target=self._follow, name="tickwatch-breaches", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, at most one step later."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def poke(self) -> None:
        """Have the log read at once: somebody in this process has just appended to it."""
        self._wake.set()

    def recent(self, position: Position, end: Reached) -> Entries | None:
        """Return the entries of [position, end) where memory has all of them."""
        with self._guard:
            known = self._reached
            if known is None or known.log_id != end.log_id or known.position < end.position:
                return None
            if self._recent_from is None or position < self._recent_from:
                return None
            newest_first = itertools.takewhile(lambda entry: entry.position >= position, reversed(self._recent))
            return tuple(entry for entry in newest_first if entry.position < end.position)[::-1]

    def step(self) -> bool:
        """Read once whatever is new; return whether the log could be read. Never raises."""
        try:
            self._read()
        except (StoreError, LogMovedError, CursorExpiredError) as error:
            self._failed(error)
            if isinstance(error, StoreRefusedError) and not self.caught_up.done():
                self.caught_up.set_exception(error)
        except Exception as error:  # noqa: BLE001 - see below; it is logged
            # A defect must not end the thread and silence all streams: it shows in health, lag and bookmarks.
            self._failed(error)
            _log.exception("following the log of breaches failed")
        else:
            if self._failures:
                _log.info("the log of breaches answers again after %d failed polls", self._failures)
            self._failures = 0
            self._read_at = self._clock.now()
        healthy = max(self.behind_seconds, self.lag_seconds) <= self._behind_after
        if healthy and not self.caught_up.done():
            self.caught_up.set_result(None)
        self._on_health(healthy)
        self._broadcast.reap()
        return not self._failures

    def _follow(self) -> None:
        while not self._stopping:
            self.step()
            self._wake.wait(min(self._interval * 2 ** min(self._failures, 10), _LONGEST_PAUSE_SECONDS + self._interval))
            self._wake.clear()

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            _log.warning("cannot follow the log of breaches: %s", error)
        self._failures += 1
        self._metrics.follower_errors.labels(type(error).__name__).inc()

    def _read(self) -> None:
        checkpoint = self._log.checkpoint()
        if checkpoint is None:
            if self._reached is not None:
                raise LogMovedError("the log of breaches has vanished")
            return
        if checkpoint == self._checkpoint:
            return
        state = state_from_text(checkpoint.state)
        if self._reached is None or checkpoint.end < self._reached.position:
            self._begin_anew(checkpoint.end, state)
        else:
            self._go_on(self._reached, Reached(self._reached.log_id, checkpoint.end, state))
        self._checkpoint = checkpoint

    def _go_on(self, last: Reached, now: Reached) -> None:
        entries = self._read_to(last.position, now.position)
        with self._guard:
            self._reached = now
            self._recent.extend(entries)
            if len(self._recent) == RECENT_ENTRIES:
                self._recent_from = self._recent[0].position
        self._on_entries(entries)
        self._metrics.followed_events.inc(len(entries))
        self._broadcast.publish(entries, now)

    def _read_to(self, position: Position, end: Position) -> Entries:
        """Read [position, end): what was appended after `end`'s checkpoint waits, because its state is not known."""
        entries: list[LogEntry] = []
        while position < end:
            page = self._log.read_after(position, PAGE_ENTRIES)
            entries += (entry for entry in page if entry.position < end)
            if len(page) < PAGE_ENTRIES:
                break
            position = page[-1].after
        return tuple(entries)

    def _begin_anew(self, end: Position, state: AlertState) -> None:
        """Go on with a log that was not known before, or that is another one now."""
        if self._reached is not None:
            _log.warning("the log of breaches is another one than before: its streams end")
        log_id = self._log.log_id()
        newest = self._log.read_before(end, PAGE_ENTRIES)[::-1]
        gap = CursorExpiredError(
            "the log of breaches is another one than before", cursor_text(log_id, self._log.earliest())
        )
        self._on_begin(end)
        with self._guard:
            self._reached = Reached(log_id, end, state)
            self._recent.clear()
            self._recent.extend(newest)
            self._recent_from = newest[0].position if newest else end
        self._broadcast.restart(self._reached, gap)
