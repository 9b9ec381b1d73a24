"""Where time comes from, so that tests can move it.

Nothing else in the product asks the machine for the time of day.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading


class Clock(ABC):
    """The time of day and the passing of it, in seconds."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970-01-01 00:00 UTC."""

    @abstractmethod
    def elapsed(self) -> float:
        """Seconds since some moment, never backwards: measures durations, whoever sets the time of day."""

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

    def elapsed(self) -> float:
        # CLOCK_BOOTTIME goes on while the machine sleeps, CLOCK_MONOTONIC does not: whoever was asleep has to know it.
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds)

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415  # a command that asks for the time alone does not pay for it

        await asyncio.sleep(seconds)


class ManualClock(Clock):
    """A clock that stands still until it is set or somebody sleeps on it; sleeping moves it at once."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._elapsed = 0.0

    def now(self) -> float:
        return self._now

    def elapsed(self) -> float:
        return self._elapsed

    def set(self, now: float) -> None:
        """Move to this moment, forwards or backwards; no time passes, as where somebody sets the machine's clock."""
        self._now = now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._now += seconds
        self._elapsed += seconds

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.advance(seconds)
        return stop.is_set()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        import asyncio  # noqa: PLC0415  # as above

        await asyncio.sleep(0)
