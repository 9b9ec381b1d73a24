"""Everything behind the dashboard, in one process, on a market whose every value is known: real servers, memory store.

What a test needs is in its hands: it writes the points, stops the servers and starts them again on the same addresses.
The clock is the machine's, because the browser has no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from services.alerter.live.engine import Engine
from services.alerter.rules.rulebook import RuleBook
from services.alerter.server import open_alerter
from services.collector.exchanges.base import ExchangeOptions
from services.collector.exchanges.registry import build_exchange
from services.core.catalog.base import FixedCatalog, Market
from services.core.catalog.rule_source import FixedRules
from services.core.clock import ManualClock, SystemClock
from services.core.model import (
    DAY_SLOTS,
    SLOT_SECONDS,
    Floats,
    Measure,
    Outcome,
    Points,
    Quality,
    Run,
    Series,
    Slot,
    Window,
    last_complete_slot,
)
from services.core.rpc.access import OPEN, Protection
from services.core.rpc.serving import Serving
from services.core.store.memory import MemoryMetricStore
from services.core.telemetry import EvaluationMetrics
from services.gateway.server import open_gateway
from services.query.server import open_query_server
from tests.support.ports import free_port

THREE = ("BTCUSD", "ETHUSD", "XRPUSD")


@dataclasses.dataclass(frozen=True)
class Day:
    """A day of values by series, from slot `start` on; NaN where there is no point."""

    start: Slot
    values: dict[Series, Floats]

    def points(self, window: Window | None = None, quality: Quality = Quality.OBSERVED) -> Points:
        """Return the points in a window, or all."""
        slots = np.arange(self.start, self.start + max(map(len, self.values.values())), dtype=np.int64)
        within = np.ones(len(slots), bool) if window is None else (slots >= window.start) & (slots < window.end)
        columns = np.array(list(self.values.values()))
        rows, places = np.nonzero(within & ~np.isnan(columns))
        return Points(
            tuple(self.values),
            rows.astype(np.int32),
            slots[places],
            columns[rows, places],
            np.full(len(rows), quality, np.uint8),
        )


async def simulated_day(end: Slot, pairs: Sequence[str] = THREE) -> Day:
    """Return the 24 hours before `end` of the simulated market: price, volumes and changes, as a collector has them."""
    values: dict[Series, Floats] = {}
    two_days = Window(Slot(end - 2 * DAY_SLOTS), end)
    async with build_exchange("SIM", ExchangeOptions(), SystemClock()) as exchange:
        for pair in pairs:
            candles = await exchange.candles(pair, two_days)
            closes, volumes = candles.closes, candles.volumes
            now, before = closes[DAY_SLOTS:], closes[:DAY_SLOTS]
            total = np.concatenate([[0.0], volumes.cumsum()])
            columns = {
                Measure.PRICE: now,
                Measure.VOLUME: total[DAY_SLOTS + 1 :] - total[1 : DAY_SLOTS + 1],
                Measure.CHANGE_ABSOLUTE: now - before,
                Measure.CHANGE_PERCENTAGE: (now - before) / before * 100,
                Measure.VOLUME_1M: volumes[DAY_SLOTS:],
            }
            values |= {Series(f"SIM:{pair}", measure): column for measure, column in columns.items()}
    return Day(Slot(end - DAY_SLOTS), values)


def flat_day(end: Slot, metrics: Iterable[str], *, value: float = 100.0, slots: int = DAY_SLOTS) -> Day:
    """Return a price for each metric that moves a little and breaks no rule; the n-th metric moves n times as much."""
    wave = np.sin(np.arange(slots) / 7.0) / 1000
    values = {
        Series(metric, Measure.PRICE): value * (1 + wave * (number + 1) / 10) for number, metric in enumerate(metrics)
    }
    return Day(Slot(end - slots), values)


class Desk:
    """The servers behind the dashboard, and the store below them."""

    def __init__(self, store: MemoryMetricStore, catalog: FixedCatalog, protection: Protection = OPEN) -> None:
        self.store = store
        self._protection = protection
        self._catalog = catalog
        self._addresses = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self._running: AsyncExitStack | None = None
        self._query: AsyncExitStack | None = None

    @property
    def url(self) -> str:
        """Where the dashboard is, also while nobody serves it."""
        return f"http://{self._addresses[2]}"

    async def start(self, **gateway: Any) -> None:
        """Serve until `stop`, on the same addresses as before; returns when every service is ready."""
        query, alerts, http = self._addresses
        rules = RuleBook(FixedRules(), self._catalog, SystemClock())
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.stop_query)
            await self.start_query()
            alerter = await stack.enter_async_context(
                open_alerter(self._serving(alerts), store=self.store, rules=rules, poll_interval_seconds=0.05)
            )
            await stack.enter_async_context(
                open_gateway(listen=http, query=query, alerts=alerts, **{"grace_seconds": 1.0, **gateway})
            )
            await alerter.ready()
            self._running = stack.pop_all()

    async def stop(self) -> None:
        """Stop serving; the store stays."""
        running, self._running = self._running, None
        if running is not None:
            await running.aclose()

    async def start_query(self) -> None:
        """Serve queries, as `start` does among others."""
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                open_query_server(self._serving(self._addresses[0]), reader=self.store, poll_interval_seconds=0.05)
            )
            await server.ready()
            self._query = stack.pop_all()

    def _serving(self, listen: str) -> Serving:
        return Serving(listen=listen, grace_seconds=1, protection=self._protection)

    async def stop_query(self) -> None:
        """Let the gateway stand without a query service."""
        query, self._query = self._query, None
        if query is not None:
            await query.aclose()

    def write(self, points: Points, exchange: str = "SIM") -> None:
        """Write points as a run of the newest slot does."""
        self.store.write(points)
        slot = Slot(int(points.slots.max()))
        self.store.record_run(Run(exchange, slot, (slot + 1) * 60.0 + 5, 1, Outcome.OK))

    def write_value(self, metric: str, measure: Measure, slot: Slot, value: float) -> None:
        """Write one point."""
        row = (Series(metric, measure), slot, value, Quality.OBSERVED)
        self.write(Points.of([row]), metric.partition(":")[0])


def newest_slot() -> Slot:
    """Return the last complete slot by the machine's clock."""
    return last_complete_slot(time.time())


async def room_in_the_minute(seconds: float = 20.0) -> Slot:
    """Return the last complete slot, at a moment from which it stays the last for so long."""
    left = SLOT_SECONDS - time.time() % SLOT_SECONDS
    if left < seconds:
        await asyncio.sleep(left + 0.05)
    return newest_slot()


@asynccontextmanager
async def open_desk(
    *days: Day,
    catalog: Sequence[Market] = (),
    evaluated: int = DAY_SLOTS,
    protection: Protection = OPEN,
    **gateway: Any,
) -> AsyncIterator[Desk]:
    """Serve a store that has these days, their last `evaluated` slots evaluated by the default rules, as days went by.

    Without days there is nothing in the store. `protection` is that of query and alerter, `gateway` what the gateway is
    opened with besides.
    """
    store = MemoryMetricStore()
    fixed = FixedCatalog(*catalog)
    if days:
        _evaluate(store, fixed, Slot(newest_slot() - evaluated))
    desk = Desk(store, fixed, protection)
    for day in days:
        exchange = next(iter(day.values)).metric.partition(":")[0]
        desk.write(day.points(), exchange)
    if evaluated > DAY_SLOTS:
        _evaluate(store, fixed, Slot(newest_slot() - DAY_SLOTS + 60))
    await desk.start(**gateway)
    try:
        yield desk
    finally:
        with contextlib.suppress(OSError):
            await desk.stop()


def _evaluate(store: MemoryMetricStore, catalog: FixedCatalog, slot: Slot) -> None:
    """Evaluate up to a slot of the past, where the log begins if it has not: an alerter goes on from there."""
    clock = ManualClock((slot + 1) * SLOT_SECONDS + 1.0)
    engine = Engine(
        reader=store,
        log=store.breach_log,
        rules=RuleBook(FixedRules(), catalog, clock),
        clock=clock,
        metrics=EvaluationMetrics(CollectorRegistry()),
    )
    assert engine.step()
