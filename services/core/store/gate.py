"""Lets a few calls at a time ask the store for what memory does not hold, and none while it is known to be away.

A blocking read holds a worker thread of the server. Without this gate a store that hangs would take all of them one by
one, and with them the answers that need no store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from services.core.errors import DeadlineTooShortError, StoreUnavailableError

LEAST_SECONDS = 0.02
"""A call with less time left is refused before it is begun: a read of the store takes about as long."""

_LONGEST_WAIT_SECONDS = 1.0
_AWAY_SECONDS = 1.0

_Answer = TypeVar("_Answer")


class StoreGate:
    """At most `permits` reads at once. After one has failed, everybody is refused at once for a second."""

    def __init__(self, store: str, permits: int) -> None:
        self._store = store
        self._permits = threading.Semaphore(permits)
        self._away_until = 0.0

    def read(self, work: Callable[[], _Answer], remaining_seconds: float) -> _Answer:
        """Run `work` as soon as there is a permit.

        Raises DeadlineTooShortError when the caller's time does not suffice, and StoreUnavailableError when the store
        is away or there was no permit within a second.
        """
        if remaining_seconds < LEAST_SECONDS:
            raise DeadlineTooShortError(
                f"{remaining_seconds * 1000:.0f} ms are left, and a read of the store needs {LEAST_SECONDS * 1000:.0f}"
            )
        if time.monotonic() < self._away_until:
            raise StoreUnavailableError(self._store, "did not answer a moment ago")
        if not self._permits.acquire(timeout=min(remaining_seconds, _LONGEST_WAIT_SECONDS)):
            self._away_until = time.monotonic() + _AWAY_SECONDS
            raise StoreUnavailableError(self._store, "is too busy: earlier reads have not ended")
        try:
            return work()
        except StoreUnavailableError:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            raise
        finally:
            self._permits.release()
