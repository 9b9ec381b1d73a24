"""Medians and spreads. Every figure here is of rounds, so that a slow moment shows as spread and not as a result."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise one value a round; raises ValueError without any."""
        rounds = list(values)
        if not rounds:
            raise ValueError("no rounds to summarise")
        return cls(statistics.median(rounds), min(rounds), max(rounds))

    def scaled(self, factor: float) -> Spread:
        """Return it in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Divide round by round and summarise: what disturbs a round disturbs both sides of its ratio."""
    return Spread.of(top / bottom for top, bottom in zip(numerators, denominators, strict=True))


def best(*columns: Sequence[float], greatest: bool = False) -> list[float]:
    """Return round by round the best of several peers: the least value, or the greatest."""
    return [(max if greatest else min)(row) for row in zip(*columns, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below or at which a share (0 to 1) of the values lies, by the nearest rank."""
    if not values:
        raise ValueError("no values to take a percentile of")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


class Bound(enum.Enum):
    """On which side of its limit a goal lies."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal of the project and what was measured of it."""

    name: str
    bound: Bound
    limit: float
    measured: Spread
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        if self.bound is Bound.AT_MOST:
            return self.measured.median <= self.limit
        return self.measured.median >= self.limit

    @property
    def verdict(self) -> str:
        """Say met, or by how many percent of the limit the median missed it."""
        if self.met:
            return "met"
        return f"missed by {abs(self.measured.median / self.limit - 1) * 100:.0f} %"
