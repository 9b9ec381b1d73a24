"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes and repetitions of all sections."""

    metric_count: int
    """Metrics of the market that peers are compared on."""
    large_count: int
    """Metrics of the market that shows how times grow."""
    rounds: int
    """How often each figure of calls is taken; at least 5 for a page that is published."""
    slow_rounds: int
    """The same for what takes many seconds each time."""
    seconds: float
    """How long one figure of calls is measured."""


FULL = Options(metric_count=1_000, large_count=10_000, rounds=5, slow_rounds=3, seconds=0.3)
QUICK = Options(metric_count=100, large_count=1_000, rounds=2, slow_rounds=2, seconds=0.3)
