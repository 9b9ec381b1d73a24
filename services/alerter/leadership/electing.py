"""Which of several replicas leads: the rules by which one takes, keeps, loses and gives back a lease.

Pure of any API: a lease is read and written through `LeaseStore`, whose writes succeed only on what was last read. The
rules are those of client-go's leader election, in elapsed time alone, so that no replica's time of day matters:

- Whoever does not hold the lease takes it once it has seen nothing change in it for as long as the holder asked for,
  counted from when *it* saw the last change. What times stand in the lease is for people.
- Whoever holds it counts from before it *asked* for its last renewal, and stops at `renew_deadline_seconds`, which is
  shorter. So it has stopped before anybody else begins, however long requests take and whatever the clocks say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from services.core.clock import Clock
from services.core.errors import LeaseMovedError

RELEASED_SECONDS = 1
"""The duration that a lease says which nobody holds; 0 is not allowed."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How fast a lease changes hands.

    A leader that dies is replaced after at most `duration_seconds` and two `retry_seconds`, 10 s; one renewal a second
    is half of what a controller of Kubernetes' own makes of the API server.
    """

    duration_seconds: int = 8
    """How long others wait for a holder that they do not hear of."""
    renew_deadline_seconds: float = 5.0
    """How long a holder goes on without having renewed. What is under way then has the difference to end in."""
    retry_seconds: float = 1.0
    """How often a holder renews, and the others look."""

    def __post_init__(self) -> None:
        if not 0 < self.retry_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError(f"{self}: it must be retry < renew deadline < duration")


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a lease says."""

    holder: str = ""
    """Empty: nobody."""
    duration_seconds: int = RELEASED_SECONDS
    acquired: datetime | None = None
    renewed: datetime | None = None
    transitions: int = 0
    """How often it has changed hands."""


@dataclass(frozen=True, slots=True)
class FoundLease:
    """A lease as it was read, and what a write must name to replace exactly that."""

    record: LeaseRecord
    version: object


class LeaseStore(Protocol):
    """Where one lease is kept. Both methods raise ClusterError, after at most `timeout_seconds`."""

    def read(self, timeout_seconds: float) -> FoundLease | None:
        """Return the lease, None if there is none."""

    def write(self, record: LeaseRecord, found: FoundLease | None, timeout_seconds: float) -> FoundLease:
        """Replace what was found, or make the lease where there was none; return it as it is then.

        Raises LeaseMovedError, and has changed nothing, where the lease is not what was found any more.
        """


class Candidate:
    """One replica that wants to lead. One thread steps; `holds`, `left_seconds`, `term` and `leader` are for any."""

    def __init__(self, identity: str, store: LeaseStore, clock: Clock, times: LeaseTimes | None = None) -> None:
        self.identity = identity
        self.times = times or LeaseTimes()
        self._store = store
        self._clock = clock
        self._found: FoundLease | None = None
        self._observed = LeaseRecord()
        self._observed_at = float("-inf")
        self._held_until = 0.0
        self._term = 0

    @property
    def leader(self) -> str:
        """Who holds the lease, as far as this replica knows; empty: nobody."""
        return self._observed.holder

    @property
    def term(self) -> int:
        """A number that changes whenever this replica begins to lead."""
        return self._term

    @property
    def left_seconds(self) -> float:
        """For how long this replica may still lead without another renewal; 0 where it does not."""
        return max(0.0, self._held_until - self._clock.elapsed())

    def holds(self) -> bool:
        """Whether this replica leads, at this very moment."""
        return self.left_seconds > 0

    def step(self, timeout_seconds: float) -> None:
        """Renew the lease, or take it if it is free; raises ClusterError where that could not be tried."""
        if self._found is not None and self._found.record.holder == self.identity:
            try:
                self._write(self._found, timeout_seconds)
            except LeaseMovedError:
                self._found = None
            else:
                return
        self._found = self._store.read(timeout_seconds)
        self._observe(self._found.record if self._found else None)
        if self._observed.holder not in ("", self.identity):
            self._held_until = 0.0
            if self._clock.elapsed() < self._observed_at + self._observed.duration_seconds:
                return
        try:
            self._write(self._found, timeout_seconds)
        except LeaseMovedError:
            # Somebody else was faster; the next step sees who.
            self._found, self._held_until = None, 0.0

    def release(self, timeout_seconds: float) -> None:
        """Give the lease back, if this replica has it; raises ClusterError. Whatever it protects has ended by now."""
        self._held_until = 0.0
        if self._found is None or self._found.record.holder != self.identity:
            return
        freed = replace(self._found.record, holder="", duration_seconds=RELEASED_SECONDS, renewed=self._now())
        try:
            self._found = self._store.write(freed, self._found, timeout_seconds)
        except LeaseMovedError:
            self._found = None
        self._observed = freed

    def _observe(self, record: LeaseRecord | None) -> None:
        """Note what the lease says, and when that was first seen; one that has vanished counts until it expires."""
        if record is None:
            if self._clock.elapsed() < self._observed_at + self._observed.duration_seconds:
                return
            record = LeaseRecord()
        if record != self._observed:
            self._observed, self._observed_at = record, self._clock.elapsed()

    def _write(self, found: FoundLease | None, timeout_seconds: float) -> None:
        began = self._clock.elapsed()
        before = found.record if found else LeaseRecord()
        mine = before.holder == self.identity
        record = LeaseRecord(
            holder=self.identity,
            duration_seconds=self.times.duration_seconds,
            acquired=before.acquired if mine else self._now(),
            renewed=self._now(),
            transitions=before.transitions + (0 if mine or found is None else 1),
        )
        self._found = self._store.write(record, found, timeout_seconds)
        self._observe(record)
        if not self.holds():
            self._term += 1
        self._held_until = began + self.times.renew_deadline_seconds

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)
