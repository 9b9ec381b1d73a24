"""Section `delivering`: from a point that is written to the subscriber's receipt, and one event to a thousand of them.

The alert service of the fan-out is a process of its own on one processor; so are the subscribers, on another where
there is one. The moment of writing is taken right before the log, or the store, is written.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import grpc
import numpy as np
import tickwatch
from tickwatch.v1 import alert_pb2 as wire

from benchmarks.options import Options
from benchmarks.report import Report, Table, number
from benchmarks.servers import scratch
from benchmarks.statistics import Bound, Goal, Spread, percentile
from services.alerter.rules.rulebook import RuleBook
from services.alerter.server import open_alert_server, open_alerter
from services.core.breach_documents import AlertState, state_text
from services.core.breaches import Checkpoint, Event, EventKind, LogEntry, Position, Severity, Subject
from services.core.catalog.base import FixedCatalog, Market
from services.core.catalog.rule_source import FixedRules
from services.core.clock import ManualClock
from services.core.model import Measure, Outcome, Points, Quality, Run, Series, Slot, last_complete_slot
from services.core.rpc.serving import Serving
from services.core.rules import DEFAULT_RULES
from services.core.store.memory import MemoryMetricStore
from services.core.store.opening import open_store

FAN_OUT_MS = 500
SUBSCRIBERS = 1000
STALLED = 10
SERIES = 1000
POLL_SECONDS = 0.25
OVER_POLL_MS = 100

_EVENTS = 5
_BACKLOG = 5000
"""Events that fill the transport of a subscriber who does not read: some 4 MB, and its window is 64 KB at first."""
_STALL_SECONDS = 3.0
_FULL_SIZE = 1000
_HISTORY_SLOTS = 70
_METHOD = "/tickwatch.v1.AlertService/WatchBreaches"
_Call: TypeAlias = "grpc.aio.UnaryStreamCall[bytes, bytes]"  # generic in the stubs only
_METRICS = tuple(f"BENCH:M{number:05}" for number in range(SERIES))


def run(options: Options, report: Report) -> None:
    """Measure both."""
    full = options.metric_count >= _FULL_SIZE
    print("delivering", flush=True)
    _fan_out(SUBSCRIBERS if full else SUBSCRIBERS // 10, options.slow_rounds, report)
    asyncio.run(_latency(120 if full else 20, report))


# From the store to the client.


async def _latency(slots: int, report: Report) -> None:
    """Write slot after slot of 1,000 series, one of them out of line, and take the time until its event is here."""
    delays: list[float] = []
    end = (
        last_complete_slot(time.time()) - slots - 1
    )  # all of them are past for the store, whose clock is the machine's
    clock = ManualClock((end + 1) * 60.0)
    market = Market("BENCH", tuple(name.partition(":")[2] for name in _METRICS), (Measure.VOLUME_1M,))
    rules = RuleBook(FixedRules(DEFAULT_RULES), FixedCatalog(market), clock)
    chance = random.Random(1)
    with scratch() as folder, open_store(f"sqlite:{folder}/tickwatch.db") as store:
        for slot in range(end - _HISTORY_SLOTS, end + 1):
            store.write(_slot_of_points(slot))
        opened = open_alerter(
            Serving(listen="127.0.0.1:0"), store=store, rules=rules, clock=clock, poll_interval_seconds=POLL_SECONDS
        )
        async with opened as server, tickwatch.AlertClient(server.address) as client:
            await server.ready()
            stream = client.watch_breaches(rules=["three-times-the-hour"])
            await anext(stream)
            for place in range(slots):
                slot = end + 1 + place
                clock.set((slot + 1) * 60.0)
                await asyncio.sleep(chance.uniform(0, POLL_SECONDS))
                begun = time.perf_counter()
                await asyncio.to_thread(store.write, _slot_of_points(slot, out_of_line=place % SERIES))
                run = Run("BENCH", Slot(slot), clock.now(), SERIES, Outcome.OK)
                await asyncio.to_thread(store.record_run, run)
                async for item in stream:
                    if isinstance(item, tickwatch.Event) and item.opening and item.metric == _METRICS[place % SERIES]:
                        break
                delays.append(time.perf_counter() - begun)
            await stream.aclose()
    p50, p99 = (percentile(delays, share) * 1e3 for share in (0.5, 0.99))
    limit = POLL_SECONDS * 1e3 + OVER_POLL_MS
    name = (
        f"write of {SERIES:,} points to the client's receipt, p99 ms, the store asked every {POLL_SECONDS * 1e3:.0f} ms"
    )
    report.goal(Goal(name, Bound.AT_MOST, limit, Spread.of([p99]), f"{slots} slots, SQLite"))
    report.table(
        Table(
            "From the store's write to the client",
            ["slots", "p50 ms", "p99 ms", "greatest ms"],
            [[str(slots), f"{p50:.0f}", f"{p99:.0f}", f"{max(delays) * 1e3:.0f}"]],
            "Writer, alerter and client are one process here, so that one clock tells the time.",
        )
    )


def _slot_of_points(slot: int, out_of_line: int | None = None) -> Points:
    values = np.full(SERIES, 100.0)
    if out_of_line is not None:
        values[out_of_line] = 1000.0
    series = tuple(Series(name, Measure.VOLUME_1M) for name in _METRICS)
    places, qualities = np.arange(SERIES, dtype=np.int32), np.full(SERIES, Quality.OBSERVED, np.uint8)
    return Points(series, places, np.full(SERIES, slot, np.int64), values, qualities)


# One event to many.


def _fan_out(subscribers: int, rounds: int, report: Report) -> None:
    """Send events to so many subscribers, without and with stalled ones among the server's streams."""
    context = multiprocessing.get_context("spawn")
    rows, spreads = [], {}
    for stalled in (0, STALLED):
        p50s, p99s = [], []
        for _ in range(rounds):
            ours, theirs = context.Pipe()
            server = context.Process(target=_serve, args=(theirs, subscribers + stalled), daemon=True)
            server.start()
            try:
                delays = asyncio.run(_subscribe(ours, ours.recv(), subscribers, stalled))
            finally:
                ours.send(0)
                server.join(60)
            p50s.append(percentile(delays, 0.5))
            p99s.append(percentile(delays, 0.99))
        spreads[stalled] = Spread.of(p99s)
        rows.append([f"{subscribers:,}", str(stalled), *(number(Spread.of(each), factor=1e3) for each in (p50s, p99s))])
    for stalled, spread in spreads.items():
        name = f"one event to {subscribers:,} subscribers beside {stalled} stalled ones: p99 ms"
        report.goal(Goal(name, Bound.AT_MOST, FAN_OUT_MS, spread.scaled(1e3)))
    header = ["subscribers", "stalled besides", "p50 ms", "p99 ms"]
    note = f"From right before the log is appended to the subscriber's receipt; {_EVENTS} events a round."
    report.table(Table("Fan-out of an event, the server on one core", header, rows, note))


async def _subscribe(server: Connection, address: str, subscribers: int, stalled: int) -> list[float]:
    """Open all streams, have events appended, and return the delays of the receipts."""
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    async with AsyncExitStack() as stack:
        hold = [await stack.enter_async_context(_channel(address, 100 + place)) for place in range(stalled)]
        kept = [_watch(channel) for channel in hold]
        if kept:
            # They read their snapshot and no more: what is sent to them fills the transport, until the server waits.
            await asyncio.gather(*(call.read() for call in kept))
            server.send(_BACKLOG)
            await asyncio.to_thread(server.recv)
            await asyncio.sleep(_STALL_SECONDS)
        channels = [await stack.enter_async_context(_channel(address, place)) for place in range(10)]
        calls = [_watch(channels[place % 10]) for place in range(subscribers)]
        await asyncio.gather(*(call.read() for call in calls))
        delays: list[float] = []
        for _ in range(_EVENTS):
            server.send(1)
            received = await asyncio.gather(*(_receive(call) for call in calls))
            appended = await asyncio.to_thread(server.recv)
            delays += [moment - appended for moment in received]
        for call in (*calls, *kept):
            call.cancel()
    return delays


def _watch(channel: grpc.aio.Channel) -> _Call:
    method: Any = channel.unary_stream(_METHOD)
    call: _Call = method(wire.WatchBreachesRequest().SerializeToString())
    return call


async def _receive(call: _Call) -> float:
    """Return when the next event came; bookmarks are passed over."""
    while True:
        message = await call.read()
        moment = time.perf_counter()
        if not isinstance(message, bytes):
            raise RuntimeError("a stream has ended")  # noqa: TRY004 - grpc's end of a stream
        if wire.WatchBreachesResponse.FromString(message).HasField("event"):
            return moment


@asynccontextmanager
async def _channel(address: str, number: int) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.primary_user_agent", f"bench-{number}")]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


def _serve(orders: Connection, streams: int) -> None:
    """Serve a log on one core; append so many events at each order, until the order is for none."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(_serve_log(orders, streams))


async def _serve_log(orders: Connection, streams: int) -> None:
    store = MemoryMetricStore()
    log = store.breach_log
    now = last_complete_slot(time.time())
    state = state_text(AlertState(now, now, {"bench": "0" * 12}))
    end = Position(now, 0)
    log.append(None, (), Checkpoint(end, state))
    clock = ManualClock((now + 1) * 60.0)
    rules = RuleBook(FixedRules(), FixedCatalog(), clock)
    serving = Serving(listen="127.0.0.1:0", max_streams=streams)
    async with open_alert_server(serving, store=store, rules=rules, clock=clock) as server:
        await server.ready()
        orders.send(server.address)
        while count := await asyncio.to_thread(orders.recv):
            first = end.ordinal
            entries = [LogEntry(Position(now, place), _event(now, place)) for place in range(first, first + count)]
            begun = time.perf_counter()
            log.append(end, entries, Checkpoint(entries[-1].after, state))
            server.poke()
            end = entries[-1].after
            orders.send(begun)


def _event(slot: Slot, number: int) -> Event:
    metric = f"BENCH:E{number:05}"
    return Event(
        EventKind.BREACH,
        "bench",
        "0" * 12,
        Severity.WARNING,
        Subject("BENCH", metric, Measure.VOLUME_1M),
        slot,
        slot,
        value=1000.0,
        baseline=100.0,
        ratio=10.0,
        threshold=300.0,
        point_count=60,
        message=f"{metric} volume_1m is 10 times its average of the last 1h: 1000 against 100 (60 points)",
    )
