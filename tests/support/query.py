"""A query service on a memory store, with a market whose every value is known, and a record of every error it gave."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry
from tickwatch.v1 import query_pb2_grpc

from services.core.clock import ManualClock
from services.core.model import DAY_SLOTS, Floats, Measure, Outcome, Points, Quality, Run, Series, Slot, Window
from services.core.rpc.paging import PageTokens
from services.core.rpc.serving import Serving
from services.core.rpc.status import REASONS
from services.core.store.base import MetricWriter
from services.core.store.gate import StoreGate
from services.core.store.memory import MemoryMetricStore
from services.core.streaming import WatchTimes
from services.core.telemetry import QueryMetrics
from services.query.following import Follower
from services.query.querying import Querying
from services.query.server import QueryServer, open_query_server
from services.query.servicer import QueryServicer
from services.query.watching import PointBroadcast
from services.query.window import HotWindow

_T = TypeVar("_T")

NOW = 1_795_500_030.0
"""Half past some minute in November 2026."""

LAST = Slot(int(NOW // 60) - 1)
"""The last complete slot at `NOW`."""


class Wrong(NamedTuple):
    """An error as a caller sees it."""

    code: str
    reason: str
    field: str
    message: str
    retry_seconds: float | None = None


_FROM_NO_SERVICE = {"DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE"}
"""What gRPC itself says when there was no answer; such an error has no details."""


def read_error(error: grpc.RpcError) -> Wrong:
    """Return a failed call's error; one without ErrorInfo, or with a reason outside the fixed list, fails the test."""
    assert isinstance(error, (grpc.aio.AioRpcError, grpc.Call))
    reason, field, retry = "", "", None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info, bad, again = (
                    error_details_pb2.ErrorInfo(),
                    error_details_pb2.BadRequest(),
                    error_details_pb2.RetryInfo(),
                )
                if detail.Unpack(info):
                    assert info.domain == "tickwatch"
                    reason = info.reason
                if detail.Unpack(bad):
                    (violation,) = bad.field_violations
                    field = violation.field
                if detail.Unpack(again):
                    retry = again.retry_delay.ToMilliseconds() / 1000
    wrong = Wrong(error.code().name, reason, field, error.details() or "", retry)
    assert reason in REASONS or (not reason and wrong.code in _FROM_NO_SERVICE), wrong
    return wrong


async def outcome(call: Awaitable[_T]) -> _T | Wrong:
    """Await a call and return its answer or its error."""
    try:
        async with asyncio.timeout(60):
            return await call
    except grpc.aio.AioRpcError as error:
        return read_error(error)


async def failure(call: Awaitable[object]) -> Wrong:
    """Await a call that has to fail, and return its error."""
    wrong = await outcome(call)
    assert isinstance(wrong, Wrong), f"answered instead of failing: {wrong}"
    return wrong


@dataclass(frozen=True)
class Market:
    """What a store was filled with: a walk for every series, by slot from `start` on; NaN where there is no point."""

    start: Slot
    values: dict[Series, Floats]

    def expected(self, series: Series, window: Window) -> Floats:
        """Return a series over a window; NaN outside what there is."""
        out = np.full(len(window), np.nan)
        for at, slot in enumerate(range(window.start, window.end)):
            if 0 <= slot - self.start < len(self.values[series]):
                out[at] = self.values[series][slot - self.start]
        return out

    def points(self, quality: Quality = Quality.OBSERVED) -> Points:
        """Return all points of the market."""
        return Points.of(
            (series, self.start + place, float(values[place]), quality)
            for series, values in self.values.items()
            for place in np.flatnonzero(~np.isnan(values)).tolist()
        )


def make_market(
    metrics: Iterable[str],
    *,
    end: Slot | None = None,
    slots: int = DAY_SLOTS,
    measures: Iterable[Measure] = (Measure.PRICE, Measure.VOLUME),
    holes: float = 0.0,
    seed: int = 1,
) -> Market:
    """Make a seeded walk for every metric and measure over the slots before `end`; `holes` is the share left out."""
    end = Slot(LAST + 1) if end is None else end
    random = np.random.default_rng(seed)
    values = {}
    for metric in metrics:
        for measure in measures:
            walk = 100 + random.normal(size=slots).cumsum() * random.uniform(0.01, 2)
            walk[random.random(slots) < holes] = np.nan
            values[Series(metric, measure)] = walk
    return Market(Slot(end - slots), values)


def make_store(market: Market | None = None, clock: ManualClock | None = None) -> MemoryMetricStore:
    """Return a memory store at `NOW` that has the market and a run of its last slot."""
    store = MemoryMetricStore(clock=clock or ManualClock(NOW))
    if market is not None:
        store.write(market.points())
        record_run(store, Slot(market.start + max(len(values) for values in market.values.values()) - 1))
    return store


def record_run(store: MetricWriter, slot: Slot, exchange: str = "SIM") -> None:
    """Note that a run has written a slot."""
    store.record_run(Run(exchange, slot, (slot + 1) * 60.0 + 5, 1, Outcome.OK))


def names(count: int, exchange: str = "SIM") -> list[str]:
    """Return so many metrics' names, in ascending order."""
    return [f"{exchange}:P{number:05d}" for number in range(count)]


async def eventually(ask: Callable[[], Awaitable[_T]], good: Callable[[_T], bool], seconds: float = 30.0) -> _T:
    """Ask again and again until the answer is good, and return it; fail with the last one after so many seconds."""
    deadline = time.monotonic() + seconds
    while not good(answer := await ask()):
        assert time.monotonic() < deadline, f"still {answer} after {seconds} s"
        await asyncio.sleep(0.005)
    return answer


class Service(NamedTuple):
    """A running query service and a raw stub on it."""

    server: QueryServer
    stub: query_pb2_grpc.QueryServiceAsyncStub
    channel: grpc.aio.Channel
    clock: ManualClock


def apart(options: dict[str, Any]) -> tuple[Serving, dict[str, Any]]:
    """Return how to serve, on a free port and with little patience, and what is a role's own: polls every 10 ms."""
    shared = {each.name for each in dataclasses.fields(Serving)}
    of_serving = {name: value for name, value in options.items() if name in shared}
    own = {name: value for name, value in options.items() if name not in shared}
    return (
        Serving(**{"listen": "127.0.0.1:0", "grace_seconds": 2.0, **of_serving}),
        {"poll_interval_seconds": 0.01, **own},
    )


@asynccontextmanager
async def serve(reader: Any, **options: Any) -> AsyncIterator[Service]:
    """Serve a store on a free port until the context ends, following it every 10 ms; `wait` for it to be loaded."""
    clock = options.pop("clock", None) or ManualClock(NOW)
    wait = options.pop("wait", True)
    serving, settings = apart(options)
    async with open_query_server(serving, reader=reader, clock=clock, **settings) as server:
        if wait:
            await server.ready()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: query_pb2_grpc.QueryServiceAsyncStub = query_pb2_grpc.QueryServiceStub(channel)
            yield Service(server, stub, channel, clock)


class Unserved(NamedTuple):
    """The query service without a server: what a stepwise test moves by hand."""

    window: HotWindow
    broadcast: PointBroadcast
    follower: Follower
    querying: Querying
    servicer: QueryServicer
    clock: ManualClock
    health: list[bool]
    """Every health that the follower has told."""


def unserved(reader: Any, *, key: bytes = b"k" * 32, stale_after_seconds: float = 300.0) -> Unserved:
    """Put the service together without threads and without a server; nothing is loaded until the follower steps."""
    clock, metrics = ManualClock(NOW), QueryMetrics(CollectorRegistry())
    health: list[bool] = []
    window, broadcast, gate = HotWindow(), PointBroadcast(), StoreGate("test:", 2)
    querying = Querying(window, reader, gate, clock)
    follower = Follower(
        reader,
        window,
        broadcast,
        clock=clock,
        metrics=metrics,
        on_health=health.append,
        stale_after_seconds=stale_after_seconds,
    )
    servicer = QueryServicer(
        querying=querying,
        reader=reader,
        gate=gate,
        broadcast=broadcast,
        tokens=PageTokens(key),
        metrics=metrics,
        times=WatchTimes(),
    )
    return Unserved(window, broadcast, follower, querying, servicer, clock, health)
