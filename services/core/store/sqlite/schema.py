"""The tables of the file, and how a file of an earlier version gets the present ones.

It knows SQL, and nothing of what is written or read.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Iterator

from services.core.errors import StoreRefusedError

APPLICATION = 0x5457_4348
"""PRAGMA application_id: "TWCH" marks a file as ours."""

MIGRATIONS = (
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


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write while the context lasts: all of it is committed at its end, or nothing after a raise."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def migrate(connection: sqlite3.Connection, url: str, timeout_seconds: float) -> None:
    """Bring the file to our schema, whoever else opens it at the same time.

    Raises StoreRefusedError, naming the store as `url`, for another program's file and for a newer schema.
    """
    connection.execute("BEGIN")  # both of one moment: another process may be making its tables right now
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    connection.rollback()
    if application != APPLICATION and tables:
        raise StoreRefusedError(url, "this is another program's database; name a file of Tickwatch's own")
    _set_journal(connection, timeout_seconds)
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StoreRefusedError(
                url,
                f"its schema is {version}, and this version of Tickwatch knows schemas up to {len(MIGRATIONS)}; "
                "upgrade Tickwatch, or name another file",
            )
        for migration in MIGRATIONS[version:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        if version == 0:
            connection.execute("INSERT INTO store VALUES (?, 0, 0)", (secrets.token_hex(8),))
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _set_journal(connection: sqlite3.Connection, timeout_seconds: float) -> None:
    """Choose write-ahead logging; changing the journal's mode ignores the busy timeout."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
