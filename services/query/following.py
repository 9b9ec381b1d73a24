"""Keeps the hot window equal to the store: reads it whole once, then whatever was written since, for ever.

It survives a store that goes away: the window is still served, and the health turns only when the data have become too
old to be called the present. It knows no wire format; whoever composes it says what health and streams are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from services.core.clock import Clock
from services.core.errors import CursorExpiredError, InvalidCursorError, StoreError, StoreRefusedError
from services.core.model import MEASURES, Measure, Points, Run, Slot, Window, last_complete_slot
from services.core.polling import Polling
from services.core.store.base import Mark, MetricReader
from services.core.telemetry import QueryMetrics
from services.query.freeing import giving_back
from services.query.rows import HOT_SLOTS, RING_SLOTS
from services.query.watching import PointBroadcast
from services.query.window import HotWindow

_log = logging.getLogger(__name__)

STALE_AFTER_SECONDS = 300.0
"""A window whose store has not been read to its end for this long is no longer called healthy: five missed minutes, two
more than the window's end waits for a late run."""

_HOUR_SLOTS = 60
_CHUNK_VALUES = 4_000_000
"""How much one read of the rehydration asks for: so many values, 36 MB with their qualities, but an hour at least."""
_READS = 2
"""How many reads are made at once: the store works for one while what came of the other is laid in the window."""

_LONGEST_PAUSE_SECONDS = 10.0
_AHEAD_SLOTS = RING_SLOTS - HOT_SLOTS
"""How far ahead of this machine's clock points may be: what lies farther would push the whole day out of the rings."""

_RUNS_EVERY_POLLS = 15


class Follower:
    """A thread that fills a window and follows the store. `loaded` is done once the first answer can be given.

    `loaded` fails with StoreRefusedError when the store refuses the very first read, because waiting will not help;
    a store that is merely away is waited for.
    """

    def __init__(
        self,
        reader: MetricReader,
        window: HotWindow,
        broadcast: PointBroadcast,
        *,
        clock: Clock,
        metrics: QueryMetrics,
        on_health: Callable[[bool], None] = lambda _serving: None,
        poll_interval_seconds: float = 1.0,
        stale_after_seconds: float = STALE_AFTER_SECONDS,
    ) -> None:
        self._reader = reader
        self._window = window
        self._broadcast = broadcast
        self._clock = clock
        self._metrics = metrics
        self._on_health = on_health
        self._stale_after = stale_after_seconds
        self._mark: Mark | None = None
        self._read_at: float | None = None
        self._failures = 0
        self._polls = 0
        self._polling = Polling(
            "tickwatch-follower",
            self.step,
            interval_seconds=poll_interval_seconds,
            longest_pause_seconds=_LONGEST_PAUSE_SECONDS,
        )
        self.runs: tuple[Run, ...] = ()
        self.loaded: Future[None] = Future()

    @property
    def lag_seconds(self) -> float:
        """Time since the store was last read to its end; infinite before the first time."""
        return float("inf") if self._read_at is None else max(0.0, self._clock.now() - self._read_at)

    def start(self) -> None:
        """Begin following in a thread of its own."""
        self._polling.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, at most one store call later."""
        self._polling.stop()

    def step(self) -> bool:
        """Read once whatever is new, or everything; return whether the store could be read. Never raises."""
        try:
            if self._mark is None:
                self._load()
            self._poll(self._mark)
        except (CursorExpiredError, InvalidCursorError) as error:
            self._failed(error)
            _log.warning("the store cannot continue from where it was read (%s): reading the window anew", error)
            self._mark = None
        except StoreError as error:
            self._failed(error)
            if isinstance(error, StoreRefusedError) and not self.loaded.done():
                self.loaded.set_exception(error)
        except Exception as error:  # noqa: BLE001 - see below; it is logged
            # A defect in a batch must not end the thread and freeze the window silently: it shows in health and lag.
            self._failed(error)
            _log.exception("following the store failed")
        else:
            if self._failures:
                _log.info("the store answers again after %d failed polls", self._failures)
            self._failures = 0
            self._read_at = self._clock.now()
            if not self.loaded.done():
                self.loaded.set_result(None)
        self._on_health(self._window.ready and self.lag_seconds <= self._stale_after)
        self._broadcast.reap()
        return not self._failures

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            _log.warning("cannot follow the store: %s", error)
        self._failures += 1
        self._metrics.follower_errors.labels(type(error).__name__).inc()

    def _load(self) -> None:
        """Read the window whole. The mark is taken before, so that what is written meanwhile is read again."""
        again = self._mark is None and self.loaded.done()
        mark = self._reader.mark()
        newest_run = self._reader.newest_run_slot()
        complete = last_complete_slot(self._clock.now())
        head = complete if newest_run is None else min(max(complete, newest_run), complete + _AHEAD_SLOTS)
        whole = Window.ending(head + 1, HOT_SLOTS)
        self._window.clear(Slot(head), whole.start)
        with giving_back():  # a fifth of all that a service of a thousand metrics holds
            self._fill(whole)
        self._window.note_run(newest_run)
        self._window.finish_filling()
        self._mark = mark
        gap = CursorExpiredError("the store has forgotten what followed the last points sent; read the history anew")
        self._broadcast.restart(mark, gap if again else None)

    def _fill(self, whole: Window) -> None:
        """Read the window: the newest hours of prices until there are some, then what is older, a measure at a time.

        Every live metric has a price of the newest hour, and so it says how long a stretch of all of them may be. A
        series costs a store something in each read, so stretches are few; they begin with an hour, because a store that
        keeps hours in blocks would read a block twice that lies in two of them.
        """
        for newest in _stretches(whole, hours=1):
            columns = self._reader.read_window(newest, [Measure.PRICE])
            self._window.fill(columns)
            if columns.series:
                break
        hours = max(_CHUNK_VALUES // (max(len(columns.series), 1) * _HOUR_SLOTS), 1)
        older_prices = Window(whole.start, newest.start)
        stretches = [
            (measure, stretch)
            for measure in MEASURES
            for stretch in _stretches(older_prices if measure is Measure.PRICE else whole, hours=hours)
        ]

        def read(stretch: tuple[Measure, Window]) -> None:
            measure, window = stretch
            self._window.fill(self._reader.read_window(window, [measure]))

        with ThreadPoolExecutor(_READS, thread_name_prefix="tickwatch-follower") as pool:
            for _ in pool.map(read, stretches):
                pass  # what failed is raised here

    def _poll(self, mark: Mark | None) -> None:
        if mark is None:
            return
        # The run's record is written after its points: read in this order, a slot is never counted before it is whole.
        newest_run = self._reader.newest_run_slot()
        changes = self._reader.read_since(mark)
        self._window.apply(self._plausible(changes.points))
        if newest_run != self._window.newest_run or self._polls % _RUNS_EVERY_POLLS == 0:
            self.runs = self._reader.latest_runs()
        self._window.note_run(newest_run)
        self._mark = changes.mark
        self._polls += 1
        self._metrics.followed_points.inc(len(changes.points))
        self._broadcast.publish(changes.points, changes.mark)

    def _plausible(self, points: Points) -> Points:
        """Leave out points from the future, which a collector with a wrong clock has written."""
        keep = points.slots <= last_complete_slot(self._clock.now()) + _AHEAD_SLOTS
        if keep.all():
            return points
        _log.warning("left out %d points from the future: is a collector's clock wrong?", np.count_nonzero(~keep))
        return points.select(keep)


def _stretches(window: Window, *, hours: int) -> Iterator[Window]:
    """Yield a window in stretches of so many hours, the latest first; all but the earliest begin with an hour."""
    end = window.end
    while end > window.start:
        start = Slot(max((end - hours * _HOUR_SLOTS) // _HOUR_SLOTS * _HOUR_SLOTS, window.start))
        yield Window(start, end)
        end = start
