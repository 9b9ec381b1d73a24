"""SQLite against the memory store, which is the reference: whatever is done to both, both say the same."""

from __future__ import annotations

import pathlib
import shutil
import tempfile

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from services.core.clock import ManualClock
from services.core.errors import CursorExpiredError
from services.core.model import (
    SLOT_SECONDS,
    Measure,
    Outcome,
    Points,
    Quality,
    Run,
    Series,
    Slot,
    Window,
    WindowColumns,
)
from services.core.store.base import Mark, MetricStore
from services.core.store.memory import MemoryMetricStore
from services.core.store.opening import open_store
from tests.support.stores import NOON, rows_of

SERIES = [Series(name, measure) for name in ("A:X", "A:Y", "B:X") for measure in (Measure.PRICE, Measure.VOLUME)]
BACK_SLOTS = 200
LATE_SLOTS = 3 * 1440

values = st.floats(allow_nan=False, allow_infinity=False, width=64)
offsets = st.integers(-BACK_SLOTS, 1) | st.integers(-LATE_SLOTS, 1)
rows = st.lists(st.tuples(st.sampled_from(SERIES), offsets, values, st.sampled_from(Quality)), max_size=30)


class TwoStores(RuleBasedStateMachine):
    """Both stores under one clock."""

    marks = Bundle("marks")

    @initialize()
    def open(self) -> None:
        """Begin with empty stores at noon."""
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.clock = ManualClock(NOON)
        self.memory: MetricStore = MemoryMetricStore(clock=self.clock, retention_days=2)
        self.sqlite = self.open_sqlite()

    def open_sqlite(self) -> MetricStore:
        """Open the file."""
        return open_store(f"sqlite:{self.folder / 't.db'}", clock=self.clock, retention_days=2)

    def teardown(self) -> None:
        """Close and delete the file."""
        if hasattr(self, "folder"):
            self.sqlite.close()
            shutil.rmtree(self.folder)

    @property
    def now(self) -> int:
        """The slot in progress."""
        return int(self.clock.now() // SLOT_SECONDS)

    def points(self, rows: list[tuple[Series, int, float, Quality]]) -> Points:
        """Points at slots relative to now, none older than the retention."""
        oldest = self.now - 2 * 1440 + 1
        return Points.of(
            (series, max(oldest, self.now + offset), value, quality) for series, offset, value, quality in rows
        )

    @rule(rows=rows)
    def write(self, rows: list[tuple[Series, int, float, Quality]]) -> None:
        """Write one batch to both."""
        points = self.points(rows)
        self.memory.write(points)
        self.sqlite.write(points)

    @rule(batches=st.lists(rows, max_size=4))
    def write_batches(self, batches: list[list[tuple[Series, int, float, Quality]]]) -> None:
        """Stream several."""
        points = [self.points(rows) for rows in batches]
        assert self.memory.write_batches(points) == self.sqlite.write_batches(points)

    @rule(
        exchange=st.sampled_from("AB"),
        offset=st.integers(-BACK_SLOTS, 0),
        shard=st.integers(0, 2),
        count=st.integers(0, 2),
        outcome=st.sampled_from(Outcome),
    )
    def record_run(self, exchange: str, offset: int, shard: int, count: int, outcome: Outcome) -> None:
        """Note a run in both."""
        run = Run(exchange, Slot(self.now + offset), self.clock.now(), count, outcome, "words", shard)
        self.memory.record_run(run)
        self.sqlite.record_run(run)

    @rule(slots=st.integers(0, 30) | st.integers(0, 1000))
    def pass_time(self, slots: int) -> None:
        """Let time pass."""
        self.clock.advance(slots * SLOT_SECONDS)

    @rule()
    def expire(self) -> None:
        """Delete what is old."""
        self.memory.expire()
        self.sqlite.expire()

    @rule()
    def reopen(self) -> None:
        """Close the file and open it again."""
        self.sqlite.close()
        self.sqlite = self.open_sqlite()

    @rule(target=marks)
    def mark(self) -> object:
        """Take the present mark of both."""
        return multiple((self.memory.mark(), self.sqlite.mark(), self.clock.now()))

    @rule(marks=marks)
    def read_since(self, marks: tuple[Mark, Mark, float]) -> None:
        """What was written since is the same, whenever the mark was taken; both forget after a day, not before."""
        of_memory, of_sqlite, taken = marks
        read = []
        for store, mark in ((self.memory, of_memory), (self.sqlite, of_sqlite)):
            try:
                read.append(sorted(rows_of(store.read_since(mark).points), key=lambda row: (row[1], row[0])))
            except CursorExpiredError:
                assert self.clock.now() - taken > 24 * 3600
        assert read[1:] in ([], read[:1])

    @rule(start=st.integers(-BACK_SLOTS, 2), length=st.integers(0, 150), some=st.sets(st.sampled_from(SERIES[:2])))
    def read_window(self, start: int, length: int, some: set[Series]) -> None:
        """A window of any start and length is the same."""
        window = Window(Slot(self.now + start), Slot(self.now + start + length))
        measures = [series.measure for series in some] or None
        self.same(self.memory.read_window(window, measures), self.sqlite.read_window(window, measures))
        for series in SERIES[:3]:
            one, other = self.memory.read_series(series, window), self.sqlite.read_series(series, window)
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.qualities, other.qualities)

    @invariant()
    def all_the_rest_is_the_same(self) -> None:
        """The list of series, the newest slot and the runs."""
        if not hasattr(self, "folder"):
            return
        assert self.memory.list_series() == self.sqlite.list_series()
        assert self.memory.newest_run_slot() == self.sqlite.newest_run_slot()
        assert self.memory.latest_runs() == self.sqlite.latest_runs()

    @staticmethod
    def same(one: WindowColumns, other: WindowColumns) -> None:
        """Compare, NaN being equal to NaN."""
        assert (one.window, one.series) == (other.window, other.series)
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.qualities, other.qualities)


TwoStores.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestTwoStores = TwoStores.TestCase
