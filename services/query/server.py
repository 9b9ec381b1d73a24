"""The query service put together: window, follower, servicer, server, metrics.

`open_query_server` serves one store to gRPC callers from the moment it is entered; until the window is filled it is
NOT_SERVING and says NOT_READY. It is the same in a process of its own and beside a collector on one store.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from services.core.broadcasting import QUEUE_BATCHES
from services.core.clock import Clock, SystemClock
from services.core.model import SLOT_SECONDS
from services.core.rpc.access import OPEN, Protection
from services.core.rpc.interceptors import StreamLimit
from services.core.rpc.paging import PageTokens
from services.core.rpc.server import RpcServer
from services.core.store.base import MetricReader
from services.core.store.gate import StoreGate
from services.core.streaming import WatchTimes
from services.core.telemetry import FreshnessCollector, QueryMetrics
from services.query.following import STALE_AFTER_SECONDS, Follower
from services.query.querying import Querying
from services.query.servicer import SERVICE, QueryServicer
from services.query.watching import PointBroadcast
from services.query.window import HotWindow


class QueryServer:
    """A running query service."""

    def __init__(self, rpc: RpcServer, follower: Follower, broadcast: PointBroadcast, window: HotWindow) -> None:
        self._rpc = rpc
        self._follower = follower
        self.broadcast = broadcast
        self.window = window
        self._stopped = asyncio.Event()

    @property
    def address(self) -> str:
        """HOST:PORT to connect to."""
        return self._rpc.address

    @property
    def port(self) -> int:
        """The port it listens on, also where the machine has chosen it."""
        return self._rpc.port

    @property
    def health_port(self) -> int | None:
        """The port where health alone answers, in plain text; None where there is none."""
        return self._rpc.health_port

    @property
    def serving(self) -> bool:
        """Whether the health says SERVING."""
        return self._rpc.health.serving

    @property
    def health_watchers(self) -> int:
        """How many watch the health."""
        return self._rpc.health.watcher_count

    async def ready(self) -> None:
        """Return once the window is filled; raises StoreRefusedError when the store refuses to be read."""
        await asyncio.shield(asyncio.wrap_future(self._follower.loaded))

    async def wait(self) -> None:
        """Return when it has been drained."""
        await self._stopped.wait()

    async def drain(self) -> None:
        """Stop without losing an accepted call: NOT_SERVING, drain delay, streams end with a cursor, grace."""
        await self._rpc.drain(self.broadcast.close)
        self._stopped.set()


@asynccontextmanager
async def open_query_server(
    *,
    reader: MetricReader,
    listen: str = "127.0.0.1:50051",
    clock: Clock | None = None,
    registry: CollectorRegistry | None = None,
    poll_interval_seconds: float = 1.0,
    stale_after_seconds: float = STALE_AFTER_SECONDS,
    drain_seconds: float = 0.0,
    grace_seconds: float = 10.0,
    max_workers: int = 8,
    max_streams: int = 256,
    queue_batches: int = QUEUE_BATCHES,
    watch_times: WatchTimes | None = None,
    reflection: bool = True,
    reuse_port: bool = False,
    protection: Protection = OPEN,
    page_token_key: bytes | None = None,
) -> AsyncIterator[QueryServer]:
    """Serve what the reader has; on exit drain, unless that was done before.

    `listen` is HOST:PORT, port 0 leaves it to the machine. `poll_interval_seconds` is how often the store is asked for
    what is new. `drain_seconds` is how long calls are still taken after the health has turned, as long as balancers
    need to see it; `grace_seconds` how long open calls may take to end. `max_streams` limits WatchPoints streams;
    `queue_batches` is how many polls with news a stream may fall behind. `page_token_key` (16 to 64 bytes) has to be
    the same for all servers behind one name; without one, tokens are good for this process alone. `reuse_port` lets
    several processes listen on the same port.

    `protection` says who may call, and how much; by default everybody may.

    Raises InvalidSettingError for an address that cannot be listened on. The reader stays the caller's to close.
    """
    clock = clock or SystemClock()
    registry = registry or CollectorRegistry()
    times = watch_times or WatchTimes()
    metrics = QueryMetrics(registry)
    window = HotWindow()
    gate = StoreGate(getattr(reader, "url", "the store"), permits=max(1, max_workers // 2))
    broadcast = PointBroadcast(metrics.dropped_subscribers.inc, capacity=queue_batches)
    querying = Querying(window, reader, gate, clock)
    tokens = PageTokens(page_token_key or secrets.token_bytes(32))
    servicer = QueryServicer(
        querying=querying,
        reader=reader,
        gate=gate,
        broadcast=broadcast,
        tokens=tokens,
        metrics=metrics,
        times=times,
    )
    async with AsyncExitStack() as stack:
        rpc = RpcServer(
            listen=listen,
            services=(SERVICE,),
            registry=registry,
            clock=clock,
            max_workers=max_workers,
            reflection=reflection,
            longest_stream_seconds=times.longest_seconds * 1.1,
            drain_seconds=drain_seconds,
            grace_seconds=grace_seconds,
            reuse_port=reuse_port,
            protection=protection,
        )
        rpc.add_service(SERVICE, servicer.handlers(rpc, StreamLimit(max_streams, protection.max_streams_per_client)))
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
