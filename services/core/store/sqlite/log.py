"""The log of breaches in SQLite: entries, checkpoint and documents in tables beside the points.

It knows SQL, and of the store only how to get a connection; schema and migrations are the store's.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from services.core.breach_documents import event_from_text, event_text
from services.core.breaches import Checkpoint, LogEntry, Position
from services.core.model import Slot
from services.core.store.base import BreachLog
from services.core.store.log_rules import check_allowed, check_append, check_document, check_end, check_position
from services.core.store.retention import Retention

Connecting = Callable[[], AbstractContextManager[sqlite3.Connection]]


class SqliteBreachLog(BreachLog):
    """Each call is one transaction: `writing` and `reading` lend a connection within one."""

    def __init__(self, writing: Connecting, reading: Connecting, retention: Retention) -> None:
        self._writing = writing
        self._reading = reading
        self._retention = retention

    def log_id(self) -> str:
        with self._reading() as connection:
            row = connection.execute("SELECT identity FROM log").fetchone()
        if row is None:
            with self._writing() as connection:
                connection.execute("INSERT INTO log VALUES (1, ?) ON CONFLICT DO NOTHING", (secrets.token_hex(16),))
                row = connection.execute("SELECT identity FROM log").fetchone()
        return str(row[0])

    def checkpoint(self) -> Checkpoint | None:
        with self._reading() as connection:
            return _checkpoint(connection)

    def append(
        self,
        expected: Position | None,
        entries: Sequence[LogEntry],
        checkpoint: Checkpoint,
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        check_append(expected, entries, checkpoint)
        rows = [(*entry.position, event_text(entry.event)) for entry in entries]
        with self._writing() as connection:
            if not check_end(_checkpoint(connection), expected, checkpoint):
                return
            check_allowed(allowed)  # waiting for this transaction may have taken long
            connection.executemany("INSERT INTO breaches VALUES (?, ?, ?)", rows)
            connection.execute(
                "INSERT INTO checkpoint VALUES (1, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET slot = excluded.slot, ordinal = excluded.ordinal, state = excluded.state",
                (*checkpoint.end, checkpoint.state),
            )

    def read_after(self, position: Position, limit: int) -> tuple[LogEntry, ...]:
        check_position(position, self.earliest())
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT slot, ordinal, event FROM breaches WHERE (slot, ordinal) >= (?, ?)"
                " ORDER BY slot, ordinal LIMIT ?",
                (*position, limit),
            ).fetchall()
        return tuple(map(_entry, rows))

    def read_before(self, position: Position | None, limit: int) -> tuple[LogEntry, ...]:
        place = position or Position(Slot(self._retention.newest() + 1), 0)
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT slot, ordinal, event FROM breaches WHERE (slot, ordinal) < (?, ?) AND slot >= ?"
                " ORDER BY slot DESC, ordinal DESC LIMIT ?",
                (*place, self._retention.oldest(), limit),
            ).fetchall()
        return tuple(map(_entry, rows))

    def earliest(self) -> Position:
        return Position(self._retention.oldest(), 0)

    def put_document(self, kind: str, key: str, text: str | None) -> None:
        check_document(kind, key, text)
        with self._writing() as connection:
            if text is None:
                connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))
            else:
                connection.execute(
                    "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET text = excluded.text",
                    (kind, key, text),
                )

    def documents(self, kind: str) -> dict[str, str]:
        with self._reading() as connection:
            return dict(connection.execute("SELECT key, text FROM documents WHERE kind = ? ORDER BY key", (kind,)))


def _checkpoint(connection: sqlite3.Connection) -> Checkpoint | None:
    row = connection.execute("SELECT slot, ordinal, state FROM checkpoint").fetchone()
    return None if row is None else Checkpoint(Position(Slot(row[0]), row[1]), row[2])


def _entry(row: tuple[int, int, str]) -> LogEntry:
    slot, ordinal, text = row
    return LogEntry(Position(Slot(slot), ordinal), event_from_text(text))
