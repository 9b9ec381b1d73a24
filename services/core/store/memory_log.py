"""The log of breaches without a disk: the plainest statement of what a log does. Gone with the process."""

from __future__ import annotations

import bisect
import secrets
import threading
from collections.abc import Callable, Sequence

from services.core.breaches import Checkpoint, LogEntry, Position
from services.core.store.base import BreachLog
from services.core.store.log_rules import check_allowed, check_append, check_document, check_end, check_position
from services.core.store.retention import Retention


class MemoryBreachLog(BreachLog):
    """Keeps entries in a list behind one lock. `check_open` raises once the store is closed."""

    def __init__(self, retention: Retention, check_open: Callable[[], None]) -> None:
        self._retention = retention
        self._check_open = check_open
        self._lock = threading.Lock()
        self._id = secrets.token_hex(16)
        self._entries: list[LogEntry] = []
        self._checkpoint: Checkpoint | None = None
        self._documents: dict[str, dict[str, str]] = {}

    def log_id(self) -> str:
        self._check_open()
        return self._id

    def checkpoint(self) -> Checkpoint | None:
        self._check_open()
        return self._checkpoint

    def append(
        self,
        expected: Position | None,
        entries: Sequence[LogEntry],
        checkpoint: Checkpoint,
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        check_append(expected, entries, checkpoint)
        with self._lock:
            self._check_open()
            if check_end(self._checkpoint, expected, checkpoint):
                check_allowed(allowed)
                self._entries.extend(entries)
                self._checkpoint = checkpoint

    def read_after(self, position: Position, limit: int) -> tuple[LogEntry, ...]:
        with self._lock:
            self._check_open()
            check_position(position, self.earliest())
            first = self._place(position)
            return tuple(self._entries[first : first + limit])

    def read_before(self, position: Position | None, limit: int) -> tuple[LogEntry, ...]:
        with self._lock:
            self._check_open()
            end = len(self._entries) if position is None else self._place(position)
            first = max(end - limit, self._place(self.earliest()), 0)
            return tuple(reversed(self._entries[first:end]))

    def earliest(self) -> Position:
        self._check_open()
        return Position(self._retention.oldest(), 0)

    def put_document(self, kind: str, key: str, text: str | None) -> None:
        check_document(kind, key, text)
        with self._lock:
            self._check_open()
            texts = self._documents.setdefault(kind, {})
            if text is None:
                texts.pop(key, None)
            else:
                texts[key] = text

    def documents(self, kind: str) -> dict[str, str]:
        with self._lock:
            self._check_open()
            return dict(sorted(self._documents.get(kind, {}).items()))

    def expire(self) -> None:
        """Drop entries older than the retention."""
        with self._lock:
            del self._entries[: self._place(self.earliest())]

    def _place(self, position: Position) -> int:
        """Return how many entries lie before a position."""
        return bisect.bisect_left(self._entries, position, key=lambda entry: entry.position)
