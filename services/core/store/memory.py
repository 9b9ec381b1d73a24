"""The store without a disk: for tests, for trying things, and as the plainest statement of what a store does.

It knows no file and no network. What it holds is gone with the process.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.core.clock import Clock, SystemClock
from services.core.errors import StoreUnavailableError
from services.core.model import (
    DAY_SLOTS,
    Floats,
    Measure,
    Points,
    Qualities,
    Run,
    Series,
    SeriesColumns,
    Slot,
    Slots,
    Window,
    WindowColumns,
)
from services.core.store.base import RETENTION_DAYS, Changes, Mark, MetricStore
from services.core.store.marks import expired, forged, make_mark, place_of
from services.core.store.memory_log import MemoryBreachLog
from services.core.store.retention import ORDER_KEPT_SECONDS, Retention


@dataclass(slots=True)
class _Row:
    """One series as dense columns that begin at slot `start` and grow at both ends."""

    start: int = 0
    values: Floats = field(default_factory=lambda: np.empty(0))
    qualities: Qualities = field(default_factory=lambda: np.empty(0, np.uint8))

    def put(self, slots: Slots, values: Floats, qualities: Qualities) -> None:
        low, high = int(slots.min()), int(slots.max()) + 1
        if not len(self.values):
            self.start = low
        if low < self.start or high > self.start + len(self.values):
            self._grow(min(low, self.start), max(high, self.start + len(self.values)))
        # Of slots that stand here twice the later assignment holds.
        self.values[slots - self.start] = values
        self.qualities[slots - self.start] = qualities

    def _grow(self, low: int, high: int) -> None:
        if self.start + len(self.values) < high:
            high += DAY_SLOTS  # room for a day, so that minute by minute appends copy rarely
        values, qualities = np.full(high - low, np.nan), np.zeros(high - low, np.uint8)
        place = slice(self.start - low, self.start - low + len(self.values))
        values[place], qualities[place] = self.values, self.qualities
        self.start, self.values, self.qualities = low, values, qualities

    def get(self, window: Window) -> tuple[slice, Floats, Qualities]:
        """Return what there is of the window, and its place within the window."""
        low = max(window.start, self.start)
        high = max(low, min(window.end, self.start + len(self.values)))
        own = slice(low - self.start, high - self.start)
        return slice(low - window.start, high - window.start), self.values[own], self.qualities[own]

    def drop_before(self, slot: int) -> None:
        surplus = min(max(0, slot - self.start), len(self.values))
        self.start += surplus
        self.values, self.qualities = self.values[surplus:].copy(), self.qualities[surplus:].copy()


@dataclass(frozen=True, slots=True)
class _Write:
    """What one write touched, and when."""

    revision: int
    written_at: float
    series: tuple[Series, ...]
    series_index: np.ndarray[tuple[int], np.dtype[np.int32]]
    slots: Slots


class MemoryMetricStore(MetricStore):
    """Keeps every series as dense columns behind one lock. Marks are valid as long as the store lives."""

    def __init__(self, *, clock: Clock | None = None, retention_days: int = RETENTION_DAYS) -> None:
        self.url = "memory:"
        self._clock = clock if clock is not None else SystemClock()
        self._retention = Retention(retention_days, self._clock)
        self._lock = threading.Lock()
        self._open = True
        self._rows: dict[Series, _Row] = {}
        self._runs: dict[tuple[str, int, int], Run] = {}
        self._writes: deque[_Write] = deque()
        self._revision = 0
        self._forgotten = 0
        self._identity = f"memory.{secrets.token_hex(8)}"
        self._breach_log = MemoryBreachLog(self._retention, self._check_open)

    @property
    def breach_log(self) -> MemoryBreachLog:
        return self._breach_log

    def write(self, points: Points) -> None:
        with self._lock:
            self._check_open()
            self._retention.check(points)
            if not len(points):
                return
            order = np.argsort(points.series_index, kind="stable")
            bounds = np.searchsorted(points.series_index[order], np.arange(len(points.series) + 1))
            for series, low, high in zip(points.series, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
                if low < high:
                    chosen = order[low:high]
                    row = self._rows.setdefault(series, _Row())
                    row.put(points.slots[chosen], points.values[chosen], points.qualities[chosen])
            self._revision += 1
            self._writes.append(
                _Write(
                    self._revision,
                    self._clock.now(),
                    points.series,
                    points.series_index.astype(np.int32),
                    points.slots.astype(np.int64),
                )
            )

    def write_batches(self, batches: Iterable[Points]) -> int:
        count = 0
        for batch in batches:
            self.write(batch)
            count += len(batch)
        return count

    def record_run(self, run: Run) -> None:
        with self._lock:
            self._check_open()
            self._runs[run.exchange, run.slot, run.shard] = run

    def expire(self) -> None:
        with self._lock:
            self._check_open()
            oldest = self._retention.oldest()
            for row in self._rows.values():
                # A day of slack, so that expiring every minute does not copy every row every minute.
                if row.start + DAY_SLOTS <= oldest:
                    row.drop_before(oldest)
            self._rows = {series: row for series, row in self._rows.items() if row.qualities.any()}
            self._runs = {key: run for key, run in self._runs.items() if run.slot >= oldest}
            while self._writes and self._writes[0].written_at < self._clock.now() - ORDER_KEPT_SECONDS:
                self._forgotten = self._writes.popleft().revision
        self._breach_log.expire()

    def list_series(self) -> tuple[Series, ...]:
        with self._lock:
            self._check_open()
            kept = Window(self._retention.oldest(), Slot(self._retention.newest() + 1))
            return tuple(sorted(series for series, row in self._rows.items() if row.get(kept)[2].any()))

    def read_window(self, window: Window, measures: Sequence[Measure] | None = None) -> WindowColumns:
        with self._lock:
            self._check_open()
            found = {}
            kept = self._retention.clamp(window)
            for series, row in self._rows.items():
                if measures is None or series.measure in measures:
                    place, values, qualities = row.get(kept)
                    if qualities.any():
                        found[series] = place, values, qualities
            names = tuple(sorted(found))
            columns = WindowColumns(
                window,
                names,
                np.full((len(names), len(window)), np.nan),
                np.zeros((len(names), len(window)), np.uint8),
            )
            offset = kept.start - window.start
            for index, series in enumerate(names):
                place, values, qualities = found[series]
                where = slice(place.start + offset, place.stop + offset)
                columns.values[index, where], columns.qualities[index, where] = values, qualities
            return columns

    def read_series(self, series: Series, window: Window) -> SeriesColumns:
        with self._lock:
            self._check_open()
            columns = SeriesColumns(window, np.full(len(window), np.nan), np.zeros(len(window), np.uint8))
            kept = self._retention.clamp(window)
            if (row := self._rows.get(series)) is not None and len(kept):
                place, values, qualities = row.get(kept)
                offset = kept.start - window.start
                where = slice(place.start + offset, place.stop + offset)
                columns.values[where], columns.qualities[where] = values, qualities
            return columns

    def mark(self) -> Mark:
        with self._lock:
            self._check_open()
            return make_mark(self._identity, self._revision)

    def read_since(self, mark: Mark) -> Changes:
        with self._lock:
            self._check_open()
            revision = self._revision_of(mark)
            touched = {
                (slot, series.sort_key, series)
                for write in self._writes
                if write.revision > revision
                for series, slot in zip(
                    map(write.series.__getitem__, write.series_index.tolist()), write.slots.tolist(), strict=True
                )
            }
            rows = []
            oldest = self._retention.oldest()
            for slot, _, series in sorted(touched, key=lambda item: item[:2]):
                row = self._rows.get(series)
                if slot >= oldest and row is not None:
                    _, values, qualities = row.get(Window(Slot(slot), Slot(slot + 1)))
                    rows.append((series, slot, float(values[0]), qualities[0]))
            return Changes(Points.of(rows), make_mark(self._identity, self._revision))

    def newest_run_slot(self) -> Slot | None:
        with self._lock:
            self._check_open()
            oldest = self._retention.oldest()
            return max(
                (run.slot for run in self._runs.values() if run.point_count and run.slot >= oldest), default=None
            )

    def latest_runs(self) -> tuple[Run, ...]:
        with self._lock:
            self._check_open()
            oldest = self._retention.oldest()
            newest: dict[str, Slot] = {}
            for run in self._runs.values():
                if run.slot >= oldest:
                    newest[run.exchange] = max(newest.get(run.exchange, run.slot), run.slot)
            latest = [run for run in self._runs.values() if newest.get(run.exchange) == run.slot]
            return tuple(sorted(latest, key=lambda run: (run.exchange, run.shard)))

    def close(self) -> None:
        with self._lock:
            self._open = False

    def _revision_of(self, mark: Mark) -> int:
        revision = place_of(mark, self._identity)
        if revision > self._revision:
            raise forged(mark)
        if revision < self._forgotten:
            raise expired()
        return revision

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailableError(self.url, "the store is closed")
