"""The query service put together: window, follower, servicer, server, metrics.

`open_query_server` serves one store to gRPC callers from the moment it is entered; until the window is filled it is
NOT_SERVING and says NOT_READY. It is the same in a process of its own and beside a collector on one store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from services.core.clock import Clock, SystemClock
from services.core.model import SLOT_SECONDS
from services.core.rpc.running import RunningRole
from services.core.rpc.server import RpcServer
from services.core.rpc.serving import Serving
from services.core.store.base import MetricReader
from services.core.store.gate import StoreGate
from services.core.telemetry import FreshnessCollector, QueryMetrics
from services.query.following import STALE_AFTER_SECONDS, Follower
from services.query.querying import Querying
from services.query.servicer import SERVICE, QueryServicer
from services.query.watching import PointBroadcast
from services.query.window import HotWindow


class QueryServer(RunningRole):
    """A running query service; it is ready once the window is filled."""

    def __init__(self, rpc: RpcServer, follower: Follower, broadcast: PointBroadcast, window: HotWindow) -> None:
        super().__init__(rpc, follower.loaded, broadcast.close)
        self.broadcast = broadcast
        self.window = window


@asynccontextmanager
async def open_query_server(
    serving: Serving,
    *,
    reader: MetricReader,
    clock: Clock | None = None,
    registry: CollectorRegistry | None = None,
    poll_interval_seconds: float = 1.0,
    stale_after_seconds: float = STALE_AFTER_SECONDS,
) -> AsyncIterator[QueryServer]:
    """Serve what the reader has; on exit drain, unless that was done before.

    `poll_interval_seconds` is how often the store is asked for what is new.

    Raises InvalidSettingError for an address that cannot be listened on. The reader stays the caller's to close.
    """
    clock = clock or SystemClock()
    registry = registry or CollectorRegistry()
    metrics = QueryMetrics(registry)
    window = HotWindow()
    gate = StoreGate(getattr(reader, "url", "the store"), permits=serving.store_permits)
    broadcast = PointBroadcast(metrics.dropped_subscribers.inc, capacity=serving.queue_batches)
    servicer = QueryServicer(
        querying=Querying(window, reader, gate, clock),
        reader=reader,
        gate=gate,
        broadcast=broadcast,
        tokens=serving.page_tokens(),
        metrics=metrics,
        times=serving.watch_times,
    )
    async with AsyncExitStack() as stack:
        rpc = RpcServer(serving, services=(SERVICE,), registry=registry, clock=clock)
        rpc.add_service(SERVICE, servicer.handlers(rpc, serving.stream_limit()))
        follower = Follower(
            reader,
            window,
            broadcast,
            clock=clock,
            metrics=metrics,
            on_health=rpc.health.set,
            poll_interval_seconds=poll_interval_seconds,
            stale_after_seconds=stale_after_seconds,
        )
        metrics.window_series.set_function(lambda: window.series_count)
        metrics.window_bytes.set_function(lambda: window.size_bytes)
        metrics.follower_lag_seconds.set_function(lambda: follower.lag_seconds)
        freshness = _freshness(window, follower, clock)
        registry.register(freshness)
        stack.callback(registry.unregister, freshness)
        server = QueryServer(rpc, follower, broadcast, window)
        stack.push_async_callback(asyncio.to_thread, follower.stop)
        stack.push_async_callback(server.drain)
        rpc.start()
        follower.start()
        yield server


def _freshness(window: HotWindow, follower: Follower, clock: Clock) -> FreshnessCollector:
    def newest_points() -> Iterator[tuple[str, float]]:
        for exchange, slot in sorted(window.newest_by_exchange.items()):
            yield exchange, max(0.0, clock.now() - (slot + 1) * SLOT_SECONDS)

    def last_runs() -> Iterator[tuple[str, float]]:
        finished: dict[str, float] = {}
        for run in follower.runs:
            finished[run.exchange] = max(run.finished_at, finished.get(run.exchange, 0.0))
        for exchange, at in sorted(finished.items()):
            yield exchange, clock.now() - at

    return FreshnessCollector(newest_points, last_runs)
