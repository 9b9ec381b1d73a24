"""The seeded market that every server is loaded with, so that all of them answer the same questions about the same day.

It knows the model and the line protocol, and no server.

Prices walk at random and volumes are log-normal, both with six decimals, which is what exchanges publish; constant or
short values would flatter whoever compresses best.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from services.core.model import (
    DAY_SLOTS,
    SLOT_SECONDS,
    Floats,
    Measure,
    Points,
    Quality,
    Series,
    Window,
    last_complete_slot,
)

EXCHANGE = "BENCH"
MEASURES = (Measure.PRICE, Measure.VOLUME, Measure.CHANGE_ABSOLUTE, Measure.CHANGE_PERCENTAGE)
BLOCK_METRICS = 50
"""Metrics generated, written and sent at a time: 288,000 points, or line protocol of about 10 MB."""

STRETCH_SLOTS = 50
"""Slots in a batch by time; not a divisor of anything that a store may cut its data into."""


def day_ending_now() -> Window:
    """Return the 1440 slots that end with the last complete one."""
    return Window.ending(last_complete_slot(time.time()) + 1)


@dataclass(frozen=True, slots=True)
class Market:
    """`metric_count` metrics x 4 measures x 1440 slots, a pure function of count, window and seed."""

    metric_count: int
    window: Window = field(default_factory=day_ending_now)
    seed: int = 1

    @property
    def point_count(self) -> int:
        """How many values there are."""
        return self.metric_count * len(MEASURES) * len(self.window)

    @staticmethod
    def pair(number: int) -> str:
        """Return the pair of a metric by its number."""
        return f"M{number:05}"

    def metric(self, number: int) -> str:
        """Return a metric's name by its number."""
        return f"{EXCHANGE}:{self.pair(number)}"

    def blocks(self) -> Iterator[tuple[range, Floats]]:
        """Yield numbers of metrics and their values, of shape (measures, metrics, slots)."""
        for first in range(0, self.metric_count, BLOCK_METRICS):
            numbers = range(first, min(first + BLOCK_METRICS, self.metric_count))
            yield numbers, self._values(numbers)

    def _values(self, numbers: range) -> Floats:
        chance = np.random.default_rng([self.seed, numbers.start])
        slots = len(self.window)
        steps = chance.normal(0, 0.001, (len(numbers), slots + DAY_SLOTS))
        start = 10 ** chance.uniform(-1, 4, (len(numbers), 1))
        walk = start * np.exp(np.cumsum(steps, axis=1))
        price, before = walk[:, DAY_SLOTS:], walk[:, :slots]
        volume = chance.lognormal(3, 1, price.shape)
        return np.stack([price, volume, price - before, (price - before) / before * 100]).round(6)

    def batches(self) -> Iterator[Points]:
        """Yield the points a block at a time, series by series and within each by slot."""
        slots = np.arange(self.window.start, self.window.end, dtype=np.int64)
        for numbers, values in self.blocks():
            series = tuple(Series(self.metric(n), measure) for measure in MEASURES for n in numbers)
            count = len(series) * len(slots)
            yield Points(
                series,
                np.repeat(np.arange(len(series), dtype=np.int32), len(slots)),
                np.tile(slots, len(series)),
                values.reshape(-1),
                np.full(count, Quality.OBSERVED, np.uint8),
            )

    def batches_by_time(self) -> Iterator[Points]:
        """Yield the same points a stretch of slots at a time, slot by slot and within each by series."""
        values = np.concatenate([block.transpose(1, 0, 2) for _, block in self.blocks()])
        columns = values.reshape(-1, len(self.window))
        series = tuple(Series(self.metric(n), measure) for n in range(self.metric_count) for measure in MEASURES)
        for first in range(0, len(self.window), STRETCH_SLOTS):
            part = columns[:, first : first + STRETCH_SLOTS]
            slots = np.arange(self.window.start + first, self.window.start + first + part.shape[1], dtype=np.int64)
            yield Points(
                series,
                np.tile(np.arange(len(series), dtype=np.int32), len(slots)),
                np.repeat(slots, len(series)),
                part.T.reshape(-1),
                np.full(part.size, Quality.OBSERVED, np.uint8),
            )

    def line_protocol(self, *, qualities: bool) -> Iterator[bytes]:
        """Yield the market as InfluxDB line protocol, a block of metrics at a time; times are in seconds.

        One line holds all measures of a metric and slot, as our InfluxDB store lays them out; with `qualities` also
        the integer field beside each measure.
        """
        seconds = [slot * SLOT_SECONDS for slot in range(self.window.start, self.window.end)]
        suffix = "={!r},{}_quality=1i" if qualities else "={!r}"
        template = ",".join(measure + suffix.replace("{}", measure) for measure in MEASURES)
        for numbers, values in self.blocks():
            lines = []
            for place, number in enumerate(numbers):
                head = f"metric,exchange={EXCHANGE},pair={self.pair(number)} {template} "
                columns = values[:, place, :].tolist()
                lines += [f"{head.format(*row)}{second}\n" for second, *row in zip(seconds, *columns, strict=True)]
            yield "".join(lines).encode()
