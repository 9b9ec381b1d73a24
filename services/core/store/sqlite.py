"""The embedded store: one SQLite file, any number of processes on one machine.

Write-ahead logging lets readers read while somebody writes; every write is one transaction, so that a writer killed at
any moment leaves all of it or nothing. The same transaction logs what the write touched, which is the write order
that followers read. How points lie in rows is the business of `blocks`; nothing outside this module sees SQL.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from services.core.clock import Clock, SystemClock
from services.core.errors import StoreRefusedError, StoreUnavailableError
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
    Slots,
    Window,
    WindowColumns,
)
from services.core.store import blocks
from services.core.store.base import RETENTION_DAYS, Changes, Mark, MetricStore
from services.core.store.marks import expired, forged, make_mark, place_of
from services.core.store.retention import ORDER_KEPT_SECONDS, Retention

if TYPE_CHECKING:
    from services.core.store.sqlite_log import SqliteBreachLog

_APPLICATION = 0x5457_4348
"""PRAGMA application_id: "TWCH" marks a file as ours."""

_WRITER_CACHE_KIBIBYTES = 65_536
_READER_CACHE_KIBIBYTES = 4096
"""A load comes back to the same pages, a reader walks over them once; and readers are as many as threads."""

_MIGRATIONS = (
    """
    CREATE TABLE store (identity TEXT NOT NULL, revision INTEGER NOT NULL, forgotten INTEGER NOT NULL) STRICT;
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, metric TEXT NOT NULL, measure TEXT NOT NULL, UNIQUE (metric, measure)
    ) STRICT;
    CREATE TABLE blocks (
        series INTEGER NOT NULL, hour INTEGER NOT NULL, points BLOB NOT NULL CHECK (length(points) = 540),
        PRIMARY KEY (series, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE writes (revision INTEGER PRIMARY KEY, written_at REAL NOT NULL) STRICT;
    CREATE TABLE touched (
        revision INTEGER NOT NULL, hour INTEGER NOT NULL, slots INTEGER NOT NULL, series BLOB NOT NULL,
        PRIMARY KEY (revision, hour, slots)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE runs (
        exchange TEXT NOT NULL, slot INTEGER NOT NULL, shard INTEGER NOT NULL, finished_at REAL NOT NULL,
        point_count INTEGER NOT NULL, outcome TEXT NOT NULL, error TEXT NOT NULL,
        PRIMARY KEY (exchange, slot, shard)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE log (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), identity TEXT NOT NULL) STRICT;
    CREATE TABLE checkpoint (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1), slot INTEGER NOT NULL, ordinal INTEGER NOT NULL,
        state TEXT NOT NULL
    ) STRICT;
    CREATE TABLE breaches (
        slot INTEGER NOT NULL, ordinal INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (slot, ordinal)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE documents (
        kind TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""Migration i leads from schema i to i + 1; PRAGMA user_version says which one a file has. Never edit, only append."""

_TRANSACTION_POINTS = 1_000_000
"""Bulk loads commit so many points at a time: enough to make a commit's cost vanish, and that of hours that a load by
time comes back to; some 80 MB of memory."""
_FETCH_BLOCKS = 16_384
_WAITABLE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""Primary result codes after which the same call may succeed later."""


class SqliteMetricStore(MetricStore):
    """A store in the file at `path`, made with its folder where it does not exist.

    One connection writes, behind a lock; readers take one of their own each, so that none waits for another. A write
    that finds the file locked by another process waits up to `timeout_seconds`. Marks count transactions.

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
        self._path = pathlib.Path(path)
        self.url = f"sqlite:{path}"
        self._timeout_seconds = timeout_seconds
        self._clock = clock if clock is not None else SystemClock()
        self._retention = Retention(retention_days, self._clock)
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._open = True
        self._names: dict[int, Series] = {}
        self._numbers: dict[Series, int] = {}
        with self._translated():
            if self._path.is_dir():
                raise StoreRefusedError(self.url, "this is a folder; name a file in it")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreRefusedError(self.url, f"cannot make its folder: {error.strerror}") from error
            self._writer = self._connect(_WRITER_CACHE_KIBIBYTES)
            try:
                self._migrate()
                (identity,) = self._writer.execute("SELECT identity FROM store").fetchone()
                self._identity = f"sqlite.{identity}"
            except BaseException:
                self._writer.close()
                raise

    @functools.cached_property
    def breach_log(self) -> SqliteBreachLog:
        # Loaded where it is used: a collector's run has no part in alerting.
        from services.core.store.sqlite_log import SqliteBreachLog  # noqa: PLC0415

        return SqliteBreachLog(self._writing, self._reading, self._retention)

    # Writing

    def write(self, points: Points) -> None:
        with self._writing() as connection:
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
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run.exchange, run.slot, run.shard, run.finished_at, run.point_count, run.outcome, run.error),
            )

    def expire(self) -> None:
        oldest = self._retention.oldest()
        forgotten_before = self._clock.now() - ORDER_KEPT_SECONDS
        with self._writing() as connection:
            (revision,) = connection.execute(
                "SELECT coalesce(max(revision), 0) FROM writes WHERE written_at < ?", (forgotten_before,)
            ).fetchone()
            if revision:
                connection.execute("DELETE FROM writes WHERE revision <= ?", (revision,))
                connection.execute("DELETE FROM touched WHERE revision <= ?", (revision,))
                connection.execute("UPDATE store SET forgotten = ?", (revision,))
            connection.execute("DELETE FROM runs WHERE slot < ?", (oldest,))
            connection.execute("DELETE FROM breaches WHERE slot < ?", (oldest,))
            # One seek a series; a series' first block goes once all of its hour is beyond the retention.
            connection.execute(
                """
                DELETE FROM blocks WHERE (series, hour) IN (
                    SELECT b.series, b.hour FROM series AS s CROSS JOIN blocks AS b
                    ON b.series = s.id AND b.hour < ?
                )
                """,
                (oldest // blocks.HOUR_SLOTS,),
            )

    def _store(self, connection: sqlite3.Connection, points: Points) -> None:
        self._read_names(connection)
        present = np.unique(points.series_index)
        numbers = np.zeros(len(points.series), np.int64)
        numbers[present] = [self._number(connection, points.series[index]) for index in present.tolist()]
        written = blocks.gather(points, numbers)
        masks = written.slot_masks()
        written.overlay_on(*self._fetch(connection, written.keys))
        connection.executemany(
            "INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET points = excluded.points",
            zip(
                blocks.series_of(written.keys).tolist(),
                blocks.hours_of(written.keys).tolist(),
                written.pack(),
                strict=True,
            ),
        )
        (revision,) = connection.execute("UPDATE store SET revision = revision + 1 RETURNING revision").fetchone()
        connection.execute("INSERT INTO writes VALUES (?, ?)", (revision, self._clock.now()))
        connection.executemany("INSERT INTO touched VALUES (?, ?, ?, ?)", _touched(revision, written.keys, masks))

    def _number(self, connection: sqlite3.Connection, series: Series) -> int:
        known = self._numbers.get(series)
        if known is not None:
            return known
        key = (series.metric, series.measure.value)
        row = connection.execute("SELECT id FROM series WHERE metric = ? AND measure = ?", key).fetchone()
        if row is None:
            # Not remembered before the commit: a transaction that fails takes the number back.
            row = connection.execute("INSERT INTO series (metric, measure) VALUES (?, ?) RETURNING id", key).fetchone()
        return int(row[0])

    # Reading

    def list_series(self) -> tuple[Series, ...]:
        oldest = self._retention.oldest()
        hour, offset = divmod(oldest, blocks.HOUR_SLOTS)
        with self._reading() as connection:
            newest = connection.execute(
                "SELECT id, (SELECT max(hour) FROM blocks WHERE series = id) AS newest FROM series WHERE newest >= ?",
                (hour,),
            ).fetchall()
            edge, packed = self._fetch(
                connection, blocks.key_of(np.array([row[0] for row in newest if row[1] == hour], np.int64), hour)
            )
            kept = {row[0] for row in newest if row[1] > hour}
            if len(edge):
                kept.update(blocks.series_of(edge)[blocks.unpack(packed)[1][:, offset:].any(axis=1)].tolist())
            names = self._read_names(connection)
        return tuple(sorted(names[number] for number in kept))

    def read_window(self, window: Window, measures: Sequence[Measure] | None = None) -> WindowColumns:
        chosen = set(MEASURES if measures is None else measures)
        kept = self._retention.clamp(window)
        with self._reading() as connection:
            names = self._read_names(connection)
            series = sorted((name, number) for number, name in names.items() if name.measure in chosen)
            if not len(kept) or not series:
                return WindowColumns(window, (), np.empty((0, len(window))), np.empty((0, len(window)), np.uint8))
            values = np.full((len(series), len(window)), np.nan)
            qualities = np.zeros((len(series), len(window)), np.uint8)
            self._read_into(connection, [number for _, number in series], kept, _part(values, qualities, window, kept))
        found = np.flatnonzero(qualities.any(axis=1))
        if len(found) < len(series):
            values, qualities = values[found], qualities[found]
        return WindowColumns(window, tuple(series[row][0] for row in found.tolist()), values, qualities)

    def read_series(self, series: Series, window: Window) -> SeriesColumns:
        kept = self._retention.clamp(window)
        values, qualities = np.full((1, len(window)), np.nan), np.zeros((1, len(window)), np.uint8)
        with self._reading() as connection:
            row = connection.execute(
                "SELECT id FROM series WHERE metric = ? AND measure = ?", (series.metric, series.measure.value)
            ).fetchone()
            if row is not None and len(kept):
                self._read_into(connection, [row[0]], kept, _part(values, qualities, window, kept))
        return SeriesColumns(window, values[0], qualities[0])

    def mark(self) -> Mark:
        with self._reading() as connection:
            (revision,) = connection.execute("SELECT revision FROM store").fetchone()
        return make_mark(self._identity, revision)

    def read_since(self, mark: Mark) -> Changes:
        with self._reading() as connection:
            newest, forgotten = connection.execute("SELECT revision, forgotten FROM store").fetchone()
            revision = place_of(mark, self._identity)
            if revision > newest:
                raise forged(mark)
            if revision < forgotten:
                raise expired()
            log = connection.execute(
                "SELECT hour, slots, series FROM touched WHERE revision > ?", (revision,)
            ).fetchall()
            keys, masks = _merged(log)
            stored, packed = self._fetch(connection, keys)
            names = self._read_names(connection)
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
        order = np.lexsort((index, slots))
        return Changes(
            Points(series, index[order], slots[order], values[order], qualities[order]),
            make_mark(self._identity, newest),
        )

    def newest_run_slot(self) -> Slot | None:
        with self._reading() as connection:
            (slot,) = connection.execute(
                "SELECT max(slot) FROM runs WHERE point_count > 0 AND slot >= ?", (self._retention.oldest(),)
            ).fetchone()
        return None if slot is None else Slot(slot)

    def latest_runs(self) -> tuple[Run, ...]:
        with self._reading() as connection:
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

    def _read_into(
        self, connection: sqlite3.Connection, numbers: list[int], window: Window, into: tuple[Floats, Qualities]
    ) -> None:
        """Fill dense columns, a row a number, in chunks, so that the file's form never lies in memory whole."""
        rows_of = np.full(max(numbers) + 1, -1)
        rows_of[numbers] = np.arange(len(numbers))
        cursor = connection.execute(
            """
            SELECT b.series, b.hour, b.points FROM json_each(?) AS n CROSS JOIN blocks AS b
            ON b.series = n.value AND b.hour BETWEEN ? AND ?
            """,
            (json.dumps(numbers), window.start // blocks.HOUR_SLOTS, (window.end - 1) // blocks.HOUR_SLOTS),
        )
        while rows := cursor.fetchmany(_FETCH_BLOCKS):
            series, hours, packed = zip(*rows, strict=True)
            blocks.spread(rows_of[list(series)], np.array(hours), blocks.unpack(packed), window, into)

    def _fetch(self, connection: sqlite3.Connection, keys: blocks.Keys) -> tuple[blocks.Keys, list[bytes]]:
        """Return those of the blocks with these keys that are stored, in the order of the keys."""
        found: list[tuple[int, int, bytes]] = []
        for at in range(0, len(keys), _FETCH_BLOCKS):
            found += connection.execute(
                """
                SELECT b.series, b.hour, b.points FROM json_each(?) AS k CROSS JOIN blocks AS b
                ON b.series = k.value >> 32 AND b.hour = k.value & 4294967295
                """,
                (json.dumps(keys[at : at + _FETCH_BLOCKS].tolist()),),
            )
        if not found:
            return np.empty(0, np.int64), []
        series, hours, packed = zip(*found, strict=True)
        return blocks.key_of(np.array(series), np.array(hours)), list(packed)

    def _read_names(self, connection: sqlite3.Connection) -> dict[int, Series]:
        """Return every series by number; numbers are never reused, so only new ones are read."""
        with self._pool_lock:
            newest = next(reversed(self._names), 0)
            for number, metric, measure in connection.execute(
                "SELECT id, metric, measure FROM series WHERE id > ? ORDER BY id", (newest,)
            ):
                series = Series(metric, Measure(measure))
                self._names[number] = series
                self._numbers[series] = number
            return self._names.copy()

    # Connections

    def close(self) -> None:
        with self._pool_lock:
            self._open = False
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._write_lock:
            self._writer.close()

    def _connect(self, cache_kibibytes: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")  # a write that returned survives a power cut
            connection.execute(f"PRAGMA cache_size = -{cache_kibibytes}")
            connection.execute("PRAGMA wal_autocheckpoint = 4096")  # pages; 16 MiB suits bulk loads
            connection.execute("PRAGMA journal_size_limit = 67108864")
        except BaseException:
            connection.close()  # the first of these finds out whether the file is a database at all
            raise
        return connection

    def _migrate(self) -> None:
        """Bring the file to our schema, whoever else opens it at the same time."""
        self._writer.execute("BEGIN")  # both of one moment: another process may be making its tables right now
        (application,) = self._writer.execute("PRAGMA application_id").fetchone()
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        self._writer.rollback()
        if application != _APPLICATION and tables:
            raise StoreRefusedError(self.url, "this is another program's database; name a file of Tickwatch's own")
        deadline = time.monotonic() + self._timeout_seconds
        while True:  # changing the journal's mode ignores the busy timeout
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        with _transaction(self._writer):
            (version,) = self._writer.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise StoreRefusedError(
                    self.url,
                    f"its schema is {version}, and this version of Tickwatch knows schemas up to {len(_MIGRATIONS)}; "
                    "upgrade Tickwatch, or name another file",
                )
            for migration in _MIGRATIONS[version:]:
                for statement in migration.split(";"):
                    self._writer.execute(statement)
            if version == 0:
                self._writer.execute("INSERT INTO store VALUES (?, 0, 0)", (secrets.token_hex(8),))
                self._writer.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._writer.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self._write_lock.acquire(timeout=self._timeout_seconds):
            raise StoreUnavailableError(self.url, f"another thread has been writing for {self._timeout_seconds:g} s")
        try:
            self._check_open()
            with self._translated(), _transaction(self._writer):
                yield self._writer
        finally:
            self._write_lock.release()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection, all of whose reads see one moment of the file."""
        with self._pool_lock:
            self._check_open()
            connection = self._idle.pop() if self._idle else None
        with self._translated():
            if connection is None:
                connection = self._connect(_READER_CACHE_KIBIBYTES)
            kept = False
            try:
                try:
                    connection.execute("BEGIN")
                    yield connection
                finally:
                    connection.rollback()
                with self._pool_lock:
                    if kept := self._open:
                        self._idle.append(connection)
            finally:
                if not kept:
                    connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._fail(error)

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            raise StoreUnavailableError(
                self.url, f"another process has kept it locked for {self._timeout_seconds:g} s"
            ) from error
        if code in _WAITABLE:
            raise StoreUnavailableError(self.url, str(error)) from error
        hints = {
            sqlite3.SQLITE_NOTADB: "; this is not a SQLite database, name another file",
            sqlite3.SQLITE_CORRUPT: "; the file is damaged, restore it or move it away",
            sqlite3.SQLITE_CANTOPEN: "; check that its folder may be written",
            sqlite3.SQLITE_READONLY: "; check that the file and its folder may be written",
        }
        raise StoreRefusedError(self.url, f"{error}{hints.get(code, '')}") from error

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailableError(self.url, "the store is closed")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _part(values: Floats, qualities: Qualities, window: Window, kept: Window) -> tuple[Floats, Qualities]:
    """Return the columns of the part of the window that is kept, as views."""
    part = slice(kept.start - window.start, kept.end - window.start)
    return values[:, part], qualities[:, part]


def _touched(revision: int, keys: blocks.Keys, masks: Slots) -> Iterator[tuple[int, int, int, bytes]]:
    """Walk the log entries of a write: a row for every hour and set of slots, with the series that have it."""
    hours = blocks.hours_of(keys)
    order = np.lexsort((keys, masks, hours))
    hours, masks, series = hours[order], masks[order], blocks.series_of(keys)[order].astype("<i4")
    bounds = np.flatnonzero(np.concatenate([[True], (np.diff(hours) != 0) | (np.diff(masks) != 0), [True]]))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield revision, int(hours[low]), int(masks[low]), series[low:high].tobytes()


def _merged(log: list[tuple[int, int, bytes]]) -> tuple[blocks.Keys, Slots]:
    """Return the keys of all blocks that log entries name, ascending and each once, and which of their slots."""
    if not log:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    members = [np.frombuffer(series, "<i4") for _, _, series in log]
    counts = [len(one) for one in members]
    keys = blocks.key_of(np.concatenate(members), np.repeat([hour for hour, _, _ in log], counts))
    masks = np.repeat(np.array([mask for _, mask, _ in log], np.int64), counts)
    order = np.argsort(keys, kind="stable")
    keys, masks = keys[order], masks[order]
    first = np.flatnonzero(np.concatenate([[True], np.diff(keys) != 0]))
    return keys[first], np.bitwise_or.reduceat(masks, first)
