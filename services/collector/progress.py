"""How far a long job is, as a value that a progress bar or a log line can show."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a long job."""

    done: int
    """How much is settled, in `unit`; never more than `total`, never less than before."""
    total: int
    unit: str
    """What is counted: `slots` (minutes of a metric) or `bytes` (of the file as it lies on the disk)."""
    rate: float
    """What was settled a second since the job began, in `unit`; 0 at first."""
    seconds_left: float | None
    """At that rate; None while it cannot be told."""
    message: str
    """What is being done, for people."""


Report = Callable[[Progress], None]


class Meter:
    """Counts, and reports each count."""

    def __init__(self, total: int, unit: str, report: Report | None) -> None:
        self._total, self._unit, self._report = total, unit, report
        self._done = self._given = 0
        self._started = time.monotonic()

    def give(self, amount: int, message: str) -> None:
        """Count what was settled before the job began, and report; it does not add to the rate."""
        self._given += amount
        self.add(amount, message)

    def add(self, amount: int, message: str) -> None:
        """Count what has been settled, and report."""
        self._done = min(self._total, self._done + amount)
        if self._report:
            elapsed = time.monotonic() - self._started
            rate = (self._done - self._given) / elapsed if elapsed > 0 else 0.0
            left = (self._total - self._done) / rate if rate > 0 else None
            self._report(Progress(self._done, self._total, self._unit, rate, left, message))
