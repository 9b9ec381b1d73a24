"""A writer in a process of its own: `python -m tests.support.store_writer URL NAME FIRST COUNT METRICS`.

Writes `COUNT` batches, batch i at slot FIRST + i of the metrics NAME:M0000 and on, each point worth i; says the number
of each batch once the store has taken it. Its clock stands at noon, as the tests' does.
"""

from __future__ import annotations

import sys

import numpy as np

from services.core.clock import ManualClock
from services.core.model import Measure, Points, Quality, Series
from services.core.store.opening import open_store
from tests.support.stores import NOON


def batch(name: str, first: int, number: int, metrics: int) -> Points:
    """Batch `number`: a point of each metric in one slot."""
    return Points(
        tuple(Series(f"{name}:M{metric:04}", Measure.PRICE) for metric in range(metrics)),
        np.arange(metrics, dtype=np.int32),
        np.full(metrics, first + number, np.int64),
        np.full(metrics, float(number)),
        np.full(metrics, Quality.OBSERVED, np.uint8),
    )


def main() -> None:
    """Write until done or killed."""
    url, name = sys.argv[1:3]
    first, count, metrics = map(int, sys.argv[3:])
    with open_store(url, clock=ManualClock(NOON)) as store:
        for number in range(count):
            store.write(batch(name, first, number, metrics))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
