"""A query service in a process of its own, for tests that kill it: `python -m tests.support.query_process`.

Prints its port, serves a memory store whose older ranges take a moment, and on SIGTERM drains and prints as JSON how
many calls it has begun and answered.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading

from prometheus_client import CollectorRegistry

from services.core.clock import SystemClock
from services.core.model import DAY_SLOTS, Measure, Series, SeriesColumns, Slot, Window, last_complete_slot
from services.core.rpc.serving import Serving
from services.core.store.memory import MemoryMetricStore
from services.query.server import open_query_server
from tests.support.query import make_market, record_run

SLOW_SECONDS = 0.2


class SlowStore(MemoryMetricStore):
    """A store that takes a moment for one series, as one over the network would."""

    def read_series(self, series: Series, window: Window) -> SeriesColumns:
        threading.Event().wait(SLOW_SECONDS)
        return super().read_series(series, window)


async def main() -> None:
    """Serve until SIGTERM."""
    clock, registry, stop = SystemClock(), CollectorRegistry(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = SlowStore(clock=clock)
    end = Slot(last_complete_slot(clock.now()) + 1)
    store.write(make_market(["SIM:AAA"], end=end, slots=2 * DAY_SLOTS, measures=[Measure.PRICE]).points())
    record_run(store, Slot(end - 1))
    serving = Serving(listen="127.0.0.1:0", drain_seconds=0.3, grace_seconds=5)
    async with open_query_server(serving, reader=store, registry=registry) as server:
        await server.ready()
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await stop.wait()
        await server.drain()
    counts = {"started": 0, "OK": 0, "failed": 0}
    for family in registry.collect():
        for sample in family.samples:
            if sample.labels.get("grpc_method") != "GetHistory":
                continue
            if sample.name == "grpc_server_started_total":
                counts["started"] += int(sample.value)
            if sample.name == "grpc_server_handled_total":
                counts["OK" if sample.labels["grpc_code"] == "OK" else "failed"] += int(sample.value)
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
