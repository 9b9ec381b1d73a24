"""What a store is. These docstrings are the specification; `tests/conformance` proves every backend against it.

Words. A *point* is identified by its series and slot. A *mark* is a place in the order in which a store was written:
whatever was written after the mark was taken is what a follower has not seen yet. *Retention* is how far back a store
remembers, in whole days, counted from its clock.

Every method blocks and may be called from any thread. Every method may raise StoreUnavailableError (out of reach
within the store's deadline; the same call may succeed later) and StoreRefusedError (reached, and it said no; the
same call will fail again).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType, Self

from services.core.model import Measure, Points, Run, Series, SeriesColumns, Slot, Window, WindowColumns

if TYPE_CHECKING:  # a collector's run need not load what only the alerter uses
    from services.core.breaches import Checkpoint, LogEntry, Position

Mark = NewType("Mark", str)
"""A place in a store's write order: opaque, printable ASCII without spaces, at most 200 characters, valid across
processes and restarts of them."""

RETENTION_DAYS = 30


@dataclass(frozen=True, slots=True)
class Changes:
    """What was written between two marks; reading again from `mark` continues without a gap."""

    points: Points
    """As stored when it was read, not as written at each time; ordered by slot, then by series."""
    mark: Mark


class MetricWriter(ABC):
    """The side of a store that collectors see."""

    @abstractmethod
    def write(self, points: Points) -> None:
        """Store points; a point replaces the one of the same series and slot, value and quality both.

        Returns once they are durable and visible to readers. After a raise, some of the points may be stored, each of
        them whole; the same call made again completes them. A backend with transactions stores all or none.

        Slots older than the retention or later than one slot after the one in progress raise InvalidInputError naming
        the first such slot, and nothing is stored. An empty batch does nothing. The arrays are not kept.
        """

    @abstractmethod
    def write_batches(self, batches: Iterable[Points]) -> int:
        """Store a stream of batches at the store's own speed and return the number of points.

        As `write` of each in order, with memory bounded by a few batches; which of them are stored after a raise is
        not said, each is stored as `write` would, and the same stream sent again completes it.
        """

    @abstractmethod
    def record_run(self, run: Run) -> None:
        """Remember what a run did; a run of the same exchange, slot and shard is replaced."""

    @abstractmethod
    def expire(self) -> None:
        """Delete what is older than the retention; cheap when there is nothing to do, so it may follow every run."""


class MetricReader(ABC):
    """The side of a store that services read. What lies beyond the retention is never returned.

    The caller owns the arrays it gets and may change them.
    """

    @abstractmethod
    def list_series(self) -> tuple[Series, ...]:
        """Return every series that has a point within the retention, in ascending order."""

    @abstractmethod
    def read_window(self, window: Window, measures: Sequence[Measure] | None = None) -> WindowColumns:
        """Return every series that has a point in the window (of these measures, where given), dense.

        An empty window gives no series. Points written while it reads may or may not be in it.
        """

    @abstractmethod
    def read_series(self, series: Series, window: Window) -> SeriesColumns:
        """Return one series over the window, dense; a series without points, known or not, is all NaN."""

    @abstractmethod
    def mark(self) -> Mark:
        """Return the present place in the write order: every write that has returned lies before it."""

    @abstractmethod
    def read_since(self, mark: Mark) -> Changes:
        """Return everything written after the mark, points for old slots included, and the next mark.

        No write that returned after the mark was taken is ever missed. A point may be returned twice by successive
        calls, and a value may be newer than the write that made it appear; so callers replace by series and slot.

        Raises InvalidCursorError for a string that this store did not issue, and CursorExpiredError when it has
        forgotten what followed the mark; the order is remembered for at least 24 hours.
        """

    @abstractmethod
    def newest_run_slot(self) -> Slot | None:
        """Return the newest slot for which any run has written a point, or None without such a run."""

    @abstractmethod
    def latest_runs(self) -> tuple[Run, ...]:
        """Return each exchange's newest run (by slot, then by shard), all shards of that slot, by exchange."""


class BreachLog(ABC):
    """What the alerter remembers: a log of events that is only ever appended to, a checkpoint, and small documents.

    One writer appends; any number of readers follow by polling `checkpoint` and `read_after`. Entries older than the
    retention, by their position's slot, are never returned. Documents have no retention of their own but what a backend
    says; whoever needs one longer puts it again.
    """

    @abstractmethod
    def log_id(self) -> str:
        """Return the log's identity: made at random when the log is first used, the same ever after, 32 hex digits."""

    @abstractmethod
    def checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint, or None in a log that nobody has appended to."""

    @abstractmethod
    def append(
        self,
        expected: Position | None,
        entries: Sequence[LogEntry],
        checkpoint: Checkpoint,
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        """Append entries and replace the checkpoint; readers see both or neither.

        `expected` is the present checkpoint's end, None for an empty log; the entries' positions lie at or after it and
        before `checkpoint.end`, in ascending order. Entries may be empty: the checkpoint alone moves on. After a
        raise, the same call made again completes it.

        Raises LogMovedError, and changes nothing, where the log does not end at `expected`; a log whose checkpoint is
        this very one has the same call done and raises nothing. A backend without transactions sees another
        writer only if that one has appended before this call began; two that append at the very same time write
        the same keys, so that nothing is ever there twice. So `allowed` is asked right before anything is written, at
        every request: where it says no, LogMovedError is raised, and readers see nothing of the append.
        """

    @abstractmethod
    def read_after(self, position: Position, limit: int) -> tuple[LogEntry, ...]:
        """Return the first committed entries at or after a position, at most `limit`, in order.

        Raises CursorExpiredError where the position's slot is older than the retention.
        """

    @abstractmethod
    def read_before(self, position: Position | None, limit: int) -> tuple[LogEntry, ...]:
        """Return the last committed entries before a position, or of all, at most `limit`, the newest first."""

    @abstractmethod
    def earliest(self) -> Position:
        """Return the earliest position that `read_after` accepts now."""

    @abstractmethod
    def put_document(self, kind: str, key: str, text: str | None) -> None:
        """Keep a text under a kind and a key (printable ASCII, at most 200 characters each), or forget it (None).

        A text has at least one character and at most 1 MB. Raises InvalidInputError for others.
        """

    @abstractmethod
    def documents(self, kind: str) -> dict[str, str]:
        """Return all texts of a kind by key, in ascending order of keys."""


class MetricStore(MetricWriter, MetricReader):
    """Both sides, the log of breaches beside them, and the life of the connection behind them.

    A store is a context manager that closes on exit. It is made by `services.core.store.opening.open_store`.
    """

    url: str
    """Where it is, without credentials; for logs and errors."""

    @property
    @abstractmethod
    def breach_log(self) -> BreachLog:
        """The alerter's part of the same store; closed with it."""

    @abstractmethod
    def close(self) -> None:
        """Free what it holds; afterwards every other method raises StoreUnavailableError. Closing twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
