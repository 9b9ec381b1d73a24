"""The embedded store: one SQLite file, any number of processes on one machine.

Every write is one transaction, so that a writer killed at any moment leaves all of it or nothing. The same transaction
logs what the write touched, which is the write order that followers read. How points lie in rows is the business of
`blocks`; nothing outside this package sees SQL.
"""

from __future__ import annotations

import functools
import pathlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from services.core.clock import Clock, SystemClock
from services.core.model import (
    MEASURES,
    Floats,
    Measure,
    Outcome,
    Points,
    Qualities,
    Run,
    Series,
    SeriesColumns,
    Slot,
    Window,
    WindowColumns,
)
from services.core.store.base import RETENTION_DAYS, Changes, Mark, MetricStore
from services.core.store.marks import expired, forged, make_mark, place_of
from services.core.store.retention import ORDER_KEPT_SECONDS, Retention
from services.core.store.sqlite import block_table, blocks, order
from services.core.store.sqlite.file import SqliteFile
from services.core.store.sqlite.series import SeriesNumbers

if TYPE_CHECKING:
    from services.core.store.sqlite.log import SqliteBreachLog

_TRANSACTION_POINTS = 1_000_000
"""Bulk loads commit so many points at a time: enough to make a commit's cost vanish, and that of hours that a load by
time comes back to; some 80 MB of memory."""


class SqliteMetricStore(MetricStore):
    """A store in the file at `path`, made with its folder where it does not exist.

    A write that finds the file locked by another process waits up to `timeout_seconds`. Marks count transactions.

    Raises StoreRefusedError where the file cannot be used: another program's, a newer schema, no permission.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        *,
        timeout_seconds: float = 10.0,
        clock: Clock | None = None,
        retention_days: int = RETENTION_DAYS,
    ) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._retention = Retention(retention_days, self._clock)
        self._numbers = SeriesNumbers()
        self._file = SqliteFile(path, timeout_seconds)
        self.url = self._file.url
        self._identity = f"sqlite.{self._file.identity}"

    @functools.cached_property
    def breach_log(self) -> SqliteBreachLog:
        # Loaded where it is used: a collector's run has no part in alerting.
        from services.core.store.sqlite.log import SqliteBreachLog  # noqa: PLC0415

        return SqliteBreachLog(self._file.writing, self._file.reading, self._retention)

    def close(self) -> None:
        self._file.close()

    # Writing

    def write(self, points: Points) -> None:
        with self._file.writing() as connection:
            self._retention.check(points)
            if len(points):
                self._store(connection, points)

    def write_batches(self, batches: Iterable[Points]) -> int:
        count = pending = 0
        gathered: list[Points] = []
        for batch in batches:
            gathered.append(batch)
            pending += len(batch)
            if pending >= _TRANSACTION_POINTS:
                self.write(Points.concatenate(gathered))
                count, pending, gathered = count + pending, 0, []
        self.write(Points.concatenate(gathered))
        return count + pending

    def record_run(self, run: Run) -> None:
        with self._file.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run.exchange, run.slot, run.shard, run.finished_at, run.point_count, run.outcome, run.error),
            )

    def expire(self) -> None:
        oldest = self._retention.oldest()
        with self._file.writing() as connection:
            order.forget_before(connection, self._clock.now() - ORDER_KEPT_SECONDS)
            connection.execute("DELETE FROM runs WHERE slot < ?", (oldest,))
            connection.execute("DELETE FROM breaches WHERE slot < ?", (oldest,))
            # A series' first block goes once all of its hour is beyond the retention.
            block_table.delete_before(connection, oldest // blocks.HOUR_SLOTS)

    def _store(self, connection: sqlite3.Connection, points: Points) -> None:
        self._numbers.names(connection)
        present = np.unique(points.series_index)
        numbers = np.zeros(len(points.series), np.int64)
        numbers[present] = [
            self._numbers.number_for_writing(connection, points.series[index]) for index in present.tolist()
        ]
        written = blocks.gather(points, numbers)
        masks = written.slot_masks()
        written.overlay_on(*block_table.fetch(connection, written.keys))
        block_table.put(connection, written)
        order.log_write(connection, written.keys, masks, self._clock.now())

    # Reading

    def list_series(self) -> tuple[Series, ...]:
        oldest = self._retention.oldest()
        hour, offset = divmod(oldest, blocks.HOUR_SLOTS)
        with self._file.reading() as connection:
            newest = connection.execute(
                "SELECT id, (SELECT max(hour) FROM blocks WHERE series = id) AS newest FROM series WHERE newest >= ?",
                (hour,),
            ).fetchall()
            edge, packed = block_table.fetch(
                connection, blocks.key_of(np.array([row[0] for row in newest if row[1] == hour], np.int64), hour)
            )
            kept = {row[0] for row in newest if row[1] > hour}
            if len(edge):
                kept.update(blocks.series_of(edge)[blocks.unpack(packed)[1][:, offset:].any(axis=1)].tolist())
            names = self._numbers.names(connection)
        return tuple(sorted(names[number] for number in kept))

    def read_window(self, window: Window, measures: Sequence[Measure] | None = None) -> WindowColumns:
        chosen = set(MEASURES if measures is None else measures)
        kept = self._retention.clamp(window)
        with self._file.reading() as connection:
            names = self._numbers.names(connection)
            series = sorted((name, number) for number, name in names.items() if name.measure in chosen)
            if not len(kept) or not series:
                return WindowColumns(window, (), np.empty((0, len(window))), np.empty((0, len(window)), np.uint8))
            values = np.full((len(series), len(window)), np.nan)
            qualities = np.zeros((len(series), len(window)), np.uint8)
            numbers = [number for _, number in series]
            block_table.read_into(connection, numbers, kept, _part(values, qualities, window, kept))
        found = np.flatnonzero(qualities.any(axis=1))
        if len(found) < len(series):
            values, qualities = values[found], qualities[found]
        return WindowColumns(window, tuple(series[row][0] for row in found.tolist()), values, qualities)

    def read_series(self, series: Series, window: Window) -> SeriesColumns:
        kept = self._retention.clamp(window)
        values, qualities = np.full((1, len(window)), np.nan), np.zeros((1, len(window)), np.uint8)
        with self._file.reading() as connection:
            number = self._numbers.number(connection, series)
            if number is not None and len(kept):
                block_table.read_into(connection, [number], kept, _part(values, qualities, window, kept))
        return SeriesColumns(window, values[0], qualities[0])

    def mark(self) -> Mark:
        with self._file.reading() as connection:
            newest, _ = order.reach(connection)
        return make_mark(self._identity, newest)

    def read_since(self, mark: Mark) -> Changes:
        with self._file.reading() as connection:
            newest, forgotten = order.reach(connection)
            revision = place_of(mark, self._identity)
            if revision > newest:
                raise forged(mark)
            if revision < forgotten:
                raise expired()
            keys, masks = order.touched_since(connection, revision)
            stored, packed = block_table.fetch(connection, keys)
            names = self._numbers.names(connection)
        if not len(stored):
            return Changes(Points.of([]), make_mark(self._identity, newest))
        found = blocks.Blocks(stored, *blocks.unpack(packed))
        places, slots, values, qualities = blocks.select(
            found, masks[np.searchsorted(keys, stored)], self._retention.oldest()
        )
        numbers = blocks.series_of(stored)
        series = tuple(sorted({names[number] for number in np.unique(numbers[places]).tolist()}))
        ranks = {name: rank for rank, name in enumerate(series)}
        index = np.array([ranks.get(names[number], -1) for number in numbers.tolist()], np.int32)[places]
        ordered = np.lexsort((index, slots))
        return Changes(
            Points(series, index[ordered], slots[ordered], values[ordered], qualities[ordered]),
            make_mark(self._identity, newest),
        )

    def newest_run_slot(self) -> Slot | None:
        with self._file.reading() as connection:
            (slot,) = connection.execute(
                "SELECT max(slot) FROM runs WHERE point_count > 0 AND slot >= ?", (self._retention.oldest(),)
            ).fetchone()
        return None if slot is None else Slot(slot)

    def latest_runs(self) -> tuple[Run, ...]:
        with self._file.reading() as connection:
            rows = connection.execute(
                """
                SELECT r.exchange, r.slot, finished_at, point_count, outcome, error, shard
                FROM (SELECT exchange, max(slot) AS slot FROM runs WHERE slot >= ? GROUP BY exchange) AS newest
                JOIN runs AS r ON r.exchange = newest.exchange AND r.slot = newest.slot
                ORDER BY r.exchange, shard
                """,
                (self._retention.oldest(),),
            ).fetchall()
        return tuple(Run(row[0], Slot(row[1]), row[2], row[3], Outcome(row[4]), row[5], row[6]) for row in rows)


def _part(values: Floats, qualities: Qualities, window: Window, kept: Window) -> tuple[Floats, Qualities]:
    """Return the columns of the part of the window that is kept, as views."""
    part = slice(kept.start - window.start, kept.end - window.start)
    return values[:, part], qualities[:, part]
