"""The last day and an hour of every series, in memory: what makes an answer cost a copy instead of a query.

One table a measure, one row a series, one column a slot of a ring, in blocks of rows that are never moved: a value and
a quality each, 9 bytes a slot. It knows no store, no wire format and no clock; `head` is the newest slot it was given.

Threads. One lock guards everything. The one writer (the follower) holds it while it scatters a batch, readers while
they copy what they return, so nobody ever holds a view of a ring. A long reader takes the lock once per block of rows
and compares `version` before and after; that is the discipline of `consistent`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.core.model import (
    MEASURES,
    Floats,
    Measure,
    Points,
    Qualities,
    Series,
    Slot,
    Window,
    WindowColumns,
)
from services.query.rows import HOT_SLOTS, RING_SLOTS, Places, Table, run_or_all

__all__ = ["HOT_SLOTS", "RING_SLOTS", "HotWindow", "Summaries"]

_SCAN_ROWS = 96
"""Rows that a scan copies at a time: about 1 MB of values, which stays in a processor's cache."""

_ATTEMPTS = 3

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, eq=False)
class Summaries:
    """What a window holds of every series of a measure; row i is of `names[i]`, in ascending order."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    last_slots: NDArray[np.int64]
    """The slot of the newest point; meaningless where the count is 0."""
    last_values: Floats


class HotWindow:
    """The rings of all series. `version` changes whenever anything that an answer may say has changed."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 0
        self.head = Slot(-1)
        self.complete_from = Slot(0)
        """Rows hold every point of the slots from here to `head` (and as far back as the ring reaches)."""
        self.newest_run: Slot | None = None
        """The newest slot that any run has written."""
        self.ready = False
        """Whether it holds what it says: not before it was filled, and not while it is being filled anew."""
        self._tables = {measure: Table() for measure in MEASURES}
        self._metrics: frozenset[str] = frozenset()
        self._newest_by_exchange: dict[str, int] = {}

    # What the follower does.

    def clear(self, head: Slot, complete_from: Slot) -> None:
        """Forget everything and start at `head`, about to be filled from `complete_from` on."""
        with self.lock:
            self._tables = {measure: Table() for measure in MEASURES}
            self._metrics = frozenset()
            self._newest_by_exchange = {}
            self.head, self.complete_from, self.ready = head, complete_from, False
            self.version += 1

    def fill(self, columns: WindowColumns) -> None:
        """Put in a stretch of every series' past; its slots lie at or before `head`."""
        if not columns.series:
            return
        with self.lock:
            for measure in MEASURES:
                rows = [row for row, series in enumerate(columns.series) if series.measure is measure]
                if rows:
                    table = self._tables[measure]
                    table.add([columns.series[row].metric for row in rows])
                    self._fill(table, columns, rows)
            self._note(columns.series)
            present = columns.qualities[:, ::-1] != 0
            newest = columns.window.end - 1 - present.argmax(axis=1)
            for series, slot, any_point in zip(
                columns.series, newest.tolist(), present.any(axis=1).tolist(), strict=True
            ):
                if any_point:
                    self._note_slot(series.metric, slot)
            self.version += 1

    def apply(self, points: Points) -> None:
        """Replace or add these points, wherever in the ring they are; what is older than the ring is left out."""
        if not len(points):
            return
        with self.lock:
            self._advance(Slot(int(points.slots.max())))
            fresh = points.slots > self.head - RING_SLOTS
            for measure in MEASURES:
                self._scatter(measure, points, fresh)
            self._note(points.series)
            newest = np.full(len(points.series), -1, np.int64)
            np.maximum.at(newest, points.series_index, points.slots)
            for series, slot in zip(points.series, newest.tolist(), strict=True):
                self._note_slot(series.metric, slot)
            self.version += 1

    def finish_filling(self) -> None:
        """Say that it now holds everything up to `head`."""
        with self.lock:
            self.ready = True
            self.version += 1

    def note_run(self, slot: Slot | None) -> None:
        """Remember the newest slot that any run has written."""
        with self.lock:
            self.newest_run = slot

    # What answers are made of.

    @property
    def metrics(self) -> frozenset[str]:
        """The names of all metrics that have a row."""
        return self._metrics

    @property
    def series_count(self) -> int:
        """How many rows there are."""
        return sum(len(table.names) for table in self._tables.values())

    @property
    def size_bytes(self) -> int:
        """How much memory the rings take, rows not yet used included."""
        blocks = [block for table in self._tables.values() for block in table.blocks]
        return sum(block.values.nbytes + block.qualities.nbytes for block in blocks)

    @property
    def newest_by_exchange(self) -> dict[str, int]:
        """The slot of each exchange's newest point."""
        with self.lock:
            return dict(self._newest_by_exchange)

    @property
    def covered_from(self) -> Slot:
        """The first slot whose points are all here."""
        return Slot(max(self.complete_from, self.head - RING_SLOTS + 1))

    def read(self, series: Series, window: Window) -> tuple[Floats, Qualities]:
        """Return copies of one row's values and qualities over a window; NaN and 0 where the ring does not reach."""
        values = np.full(len(window), np.nan)
        qualities = np.zeros(len(window), np.uint8)
        with self.lock:
            table = self._tables[series.measure]
            if (place := table.place(series.metric)) is not None:
                block, row = table.blocks[place[0]], place[1]
                for target, source in self._pieces(window):
                    values[target] = block.values[row, source]
                    qualities[target] = block.qualities[row, source]
        return values, qualities

    def names(self, measure: Measure) -> list[str]:
        """The names of the rows of a measure, in the order in which `scan` meets them."""
        with self.lock:
            return list(self._tables[measure].names)

    def by_name(self, measure: Measure) -> Places:
        """The rows of a measure in ascending order of their names."""
        with self.lock:
            return self._tables[measure].by_name

    def scan(self, measure: Measure, window: Window) -> Iterator[Floats]:
        """Walk all rows of a measure, some at a time: values of shape (rows, slots), yours until the next step."""
        buffer = np.empty((_SCAN_ROWS, len(window)))
        for block in list(self._tables[measure].blocks):
            for start in range(0, block.used, _SCAN_ROWS):
                rows = slice(start, min(start + _SCAN_ROWS, block.used))
                chunk = buffer[: rows.stop - rows.start]
                with self.lock:
                    pieces = self._pieces(window)
                    if sum(target.stop - target.start for target, _ in pieces) < len(window):
                        chunk.fill(np.nan)
                    for target, source in pieces:
                        chunk[:, target] = block.values[rows, source]
                yield chunk

    def summarise(self, measure: Measure, window: Window) -> Summaries:
        """Count every row's points in a window and find the newest of each."""
        with self.lock:
            table = self._tables[measure]
            counts, lasts, values = [], [], []
            pieces = self._pieces(window)
            for block in table.blocks:
                count = np.zeros(block.used, np.int64)
                last = np.zeros(block.used, np.int64)
                for target, source in pieces:
                    present = block.qualities[: block.used, source] != 0
                    found = present.sum(axis=1)
                    newest = target.stop - 1 - present[:, ::-1].argmax(axis=1)
                    last[found > 0] = newest[found > 0]
                    count += found
                slots = last + window.start
                counts.append(count)
                lasts.append(slots)
                values.append(block.values[np.arange(block.used), slots % RING_SLOTS])
            order = table.by_name
            if not len(order):
                return Summaries((), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
            names = tuple(table.names[row] for row in order.tolist())
            return Summaries(
                names, np.concatenate(counts)[order], np.concatenate(lasts)[order], np.concatenate(values)[order]
            )

    def consistent(self, work: Callable[[], _Answer]) -> _Answer:
        """Run `work` so that it sees one version: again if the window changed meanwhile, at last under the lock."""
        for _ in range(_ATTEMPTS):
            before = self.version
            answer = work()
            if self.version == before:
                return answer
        with self.lock:
            return work()

    # How the rings turn.

    def _pieces(self, window: Window) -> list[tuple[slice, slice]]:
        """Return where a window lies: (place in the window, columns of the ring), at most two, in ascending order."""
        start = max(window.start, self.head - RING_SLOTS + 1)
        stop = min(window.end, self.head + 1)
        pieces = []
        while start < stop:
            column = start % RING_SLOTS
            length = min(stop - start, RING_SLOTS - column)
            at = start - window.start
            pieces.append((slice(at, at + length), slice(column, column + length)))
            start += length
        return pieces

    def _advance(self, newest: Slot) -> None:
        if newest <= self.head:
            return
        entered = Window(Slot(max(self.head + 1, newest - RING_SLOTS + 1)), Slot(newest + 1))
        self.head = newest
        for _, columns in self._pieces(entered):
            for table in self._tables.values():
                for block in table.blocks:
                    block.values[: block.used, columns] = np.nan
                    block.qualities[: block.used, columns] = 0

    def _fill(self, table: Table, columns: WindowColumns, rows: list[int]) -> None:
        places = table.places([columns.series[row].metric for row in rows])
        sources = np.array(rows, np.int64)
        for number in np.unique(places[:, 0]).tolist():
            mine = places[:, 0] == number
            block, targets, taken = table.blocks[number], run_or_all(places[mine, 1]), run_or_all(sources[mine])
            for here, there in self._pieces(columns.window):
                block.values[targets, there] = columns.values[taken, here]
                block.qualities[targets, there] = columns.qualities[taken, here]

    def _scatter(self, measure: Measure, points: Points, fresh: NDArray[np.bool_]) -> None:
        table = self._tables[measure]
        mine = np.array([series.measure is measure for series in points.series])
        chosen = np.flatnonzero(fresh & mine[points.series_index])
        if not len(chosen):
            return
        present = np.unique(points.series_index[chosen])
        table.add([points.series[index].metric for index in present.tolist()])
        places = np.zeros((len(points.series), 2), np.int64)
        places[present] = table.places([points.series[index].metric for index in present.tolist()])
        places = places[points.series_index[chosen]]
        for number in np.unique(places[:, 0]).tolist():
            here = places[:, 0] == number
            block, taken = table.blocks[number], chosen[here]
            target = (places[here, 1], points.slots[taken] % RING_SLOTS)
            # Of a series and slot that stand twice in a batch the later one stays: numpy assigns in order.
            block.values[target] = points.values[taken]
            block.qualities[target] = points.qualities[taken]

    def _note(self, series: tuple[Series, ...]) -> None:
        names = {one.metric for one in series}
        if not names <= self._metrics:
            self._metrics |= names

    def _note_slot(self, metric: str, slot: int) -> None:
        exchange = metric.partition(":")[0]
        self._newest_by_exchange[exchange] = max(slot, self._newest_by_exchange.get(exchange, -1))
