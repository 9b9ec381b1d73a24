"""The file and its connections: one that writes, behind a lock, and one for each reader, so that no reader waits.

Write-ahead logging lets readers read while somebody writes. Every connection is lent within a transaction, and what
SQLite finds wrong comes out as one of our errors. It knows neither points nor their tables.
"""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import threading
from collections.abc import Iterator
from typing import NoReturn

from services.core.errors import StoreRefusedError, StoreUnavailableError
from services.core.store.sqlite.schema import migrate, transaction

_WRITER_CACHE_KIBIBYTES = 65_536
_READER_CACHE_KIBIBYTES = 2048
"""A load comes back to the same pages, a reader walks over them once; and readers are as many as threads."""

_WAITABLE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""Primary result codes after which the same call may succeed later."""
_HINTS = {
    sqlite3.SQLITE_NOTADB: "; this is not a SQLite database, name another file",
    sqlite3.SQLITE_CORRUPT: "; the file is damaged, restore it or move it away",
    sqlite3.SQLITE_CANTOPEN: "; check that its folder may be written",
    sqlite3.SQLITE_READONLY: "; check that the file and its folder may be written",
}


class SqliteFile:
    """The file at `path`, made with its folder where it does not exist, and brought to our schema.

    A write that finds the file locked by another process waits up to `timeout_seconds`. Raises StoreRefusedError where
    the file cannot be used: another program's, a newer schema, no permission.
    """

    identity: str
    """Drawn at random when the file was made."""

    def __init__(self, path: str | pathlib.Path, timeout_seconds: float) -> None:
        self.url = f"sqlite:{path}"
        self._path = pathlib.Path(path)
        self._timeout_seconds = timeout_seconds
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._open = True
        with self._translated():
            if self._path.is_dir():
                raise StoreRefusedError(self.url, "this is a folder; name a file in it")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreRefusedError(self.url, f"cannot make its folder: {error.strerror}") from error
            self._writer = self._connect(_WRITER_CACHE_KIBIBYTES)
            try:
                migrate(self._writer, self.url, timeout_seconds)
                (self.identity,) = self._writer.execute("SELECT identity FROM store").fetchone()
            except BaseException:
                self._writer.close()
                raise

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection that writes, within a transaction that is committed at the context's end."""
        if not self._write_lock.acquire(timeout=self._timeout_seconds):
            raise StoreUnavailableError(self.url, f"another thread has been writing for {self._timeout_seconds:g} s")
        try:
            self._check_open()
            with self._translated(), transaction(self._writer):
                yield self._writer
        finally:
            self._write_lock.release()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
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

    def close(self) -> None:
        """Close every connection, those that are lent when they come back; closing twice is fine."""
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
        raise StoreRefusedError(self.url, f"{error}{_HINTS.get(code, '')}") from error

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailableError(self.url, "the store is closed")
