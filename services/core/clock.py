"""Where time comes from, so that tests can move it.

Nothing else in the product asks the machine for the time of day.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod


class Clock(ABC):
    """The time of day and the passing of it, in seconds."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970-01-01 00:00 UTC."""

    @abstractmethod
    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Block this thread for so many seconds or until `stop` is set; return whether it is set."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Suspend this task for so many seconds."""


class SystemClock(Clock):
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock(Clock):
    """A clock that stands still until it is set or somebody sleeps on it; sleeping moves it at once."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def set(self, now: float) -> None:
        """Move to this moment, forwards or backwards."""
        self._now = now

    def advance(self, seconds: float) -> None:
        """Move forwards by so many seconds."""
        self._now += seconds

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.advance(seconds)
        return stop.is_set()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)
