"""Our own stores, filled with the seeded market."""

from __future__ import annotations

import time

from benchmarks.data import EXCHANGE, Market
from benchmarks.servers import TOKEN
from services.core.model import Outcome, Run, Slot
from services.core.store.base import MetricStore
from services.core.store.opening import open_store


def opened(url: str) -> MetricStore:
    """Open a store with the benchmark's token and a patient timeout."""
    return open_store(url, token=TOKEN, timeout_seconds=60)


def load_store(url: str, market: Market) -> None:
    """Write the market, and the run that a collector would have recorded of its newest slot."""
    with opened(url) as store:
        store.write_batches(market.batches())
        store.record_run(Run(EXCHANGE, Slot(market.window.end - 1), time.time(), market.metric_count * 4, Outcome.OK))
