"""A catalog of three exchanges against a server that speaks as each of them: what a run and a backfill store."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import numpy as np
import pytest

from services.collector.backfill import backfill, window_since
from services.collector.collecting import Collector
from services.collector.exchanges.base import ExchangeOptions
from services.collector.exchanges.registry import default_market
from services.collector.job import open_collector
from services.core.catalog.base import FixedCatalog
from services.core.clock import Clock
from services.core.model import DAY_SLOTS, Measure, Outcome, Series, Slot, Window, last_complete_slot
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support.exchanges import PinnedClock, RunningExchange, running_exchange

EXCHANGES = ("BINANCE", "COINBASE", "KRAKEN")
BITCOIN = {"BINANCE": "BTCUSDT", "COINBASE": "BTCUSD", "KRAKEN": "BTCUSD"}
QUIET = (-40, -30)
"""Nobody traded BTC on Coinbase then; minutes from the server's start."""


@pytest.fixture(scope="module")
def rig() -> Iterator[RunningExchange]:
    """One server, which is all three."""
    with running_exchange("--gap", f"coinbase:BTC/USD@{QUIET[0]}:{QUIET[1]}") as running:
        yield running


@pytest.fixture
def store() -> Iterator[MetricStore]:
    """An empty store in memory."""
    with open_store("memory:") as opened:
        yield opened


@pytest.fixture
async def collector(rig: RunningExchange, store: MetricStore) -> AsyncIterator[Collector]:
    """A collector of each exchange's three pairs that nobody has to name."""
    rig.clear_faults()
    # Ten seconds slow, so that the minute that has ended by it is complete, whatever second it is.
    async with opened(rig, store, PinnedClock(offset_seconds=-10)) as collector:
        yield collector


def opened(rig: RunningExchange, store: MetricStore, clock: Clock) -> AbstractAsyncContextManager[Collector]:
    """Open such a collector with this clock."""
    options = ExchangeOptions(base_url=rig.url, calls_per_second=1000, burst=1000, timeout_seconds=20, retry_seconds=0)
    return open_collector(
        store,
        catalog=FixedCatalog(*map(default_market, EXCHANGES)),
        exchange_options={name.lower(): options for name in EXCHANGES},
        clock=clock,
    )


def told_closes(rig: RunningExchange) -> dict[str, dict[int, float]]:
    """What each exchange's newest candles of BTC say, by slot."""
    kraken = rig.kraken("OHLC", pair="XXBTZUSD", interval=1)["XXBTZUSD"]
    return {
        "BINANCE": {
            row[0] // 60_000: float(row[4]) for row in rig.ask("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=200")
        },
        "COINBASE": {row[0] // 60: row[4] for row in rig.ask("/products/BTC-USD/candles?granularity=60")},
        "KRAKEN": {row[0] // 60: float(row[4]) for row in kraken},
    }


def column(store: MetricStore, exchange: str, measure: Measure, window: Window) -> dict[int, float]:
    """The points of an exchange's BTC, by slot."""
    values = store.read_series(Series(f"{exchange}:{BITCOIN[exchange]}", measure), window).values
    return {window.start + int(i): float(values[i]) for i in np.flatnonzero(np.isfinite(values))}


async def test_a_run_samples_all(rig: RunningExchange, store: MetricStore, collector: Collector) -> None:
    """Every exchange's pairs have their prices, each its own, and the day's volume; hours before are filled in."""
    slot = last_complete_slot(collector.clock.now())

    report = await collector.collect(slot)

    assert [(one.exchange, one.outcome, dict(one.failures)) for one in report.exchanges] == [
        (name, Outcome.OK, {}) for name in EXCHANGES
    ]
    hours = Window.ending(slot + 1, 180)
    for exchange, told in told_closes(rig).items():
        stored = column(store, exchange, Measure.PRICE, hours)
        assert len(stored) == 180
        shared = set(told) & set(stored)
        assert len(shared) > 160
        assert {s: told[s] for s in shared} == {s: stored[s] for s in shared}
        assert slot in column(store, exchange, Measure.VOLUME, hours)
        if exchange != "KRAKEN":  # whose candles tell one minute in five of the day before
            assert slot in column(store, exchange, Measure.CHANGE_PERCENTAGE, hours)


async def test_minutes_without_trades(rig: RunningExchange, store: MetricStore, collector: Collector) -> None:
    """Coinbase lists none: their price is the one before them, and nothing was traded."""
    slot = last_complete_slot(collector.clock.now())
    await collector.collect(slot)

    epoch = rig.stats()["epoch"] // 60
    quiet = Window(Slot(epoch + QUIET[0]), Slot(epoch + QUIET[1]))
    before = Window(Slot(quiet.start - 1), quiet.start)
    (price,) = column(store, "COINBASE", Measure.PRICE, before).values()
    assert column(store, "COINBASE", Measure.PRICE, quiet) == dict.fromkeys(range(quiet.start, quiet.end), price)
    assert column(store, "COINBASE", Measure.VOLUME_1M, quiet) == dict.fromkeys(range(quiet.start, quiet.end), 0.0)


@pytest.mark.parametrize(
    ("exchange", "path"), [("BINANCE", "/api/v3/"), ("COINBASE", "/products"), ("KRAKEN", "/0/public/")]
)
@pytest.mark.parametrize("fault", ["http_503", "truncated_json", "reset", "html_520", "wrong_type:nan"])
async def test_one_exchange_in_trouble_costs_itself_only(
    rig: RunningExchange, collector: Collector, exchange: str, path: str, fault: str
) -> None:
    """It is reported in its own words, nothing wrong of it is stored, and the other two are whole."""
    rig.post_fault(fault, path=path)

    report = await collector.collect(last_complete_slot(collector.clock.now()))

    for one in report.exchanges:
        assert (one.outcome is Outcome.OK) == (one.exchange != exchange)
        if one.exchange == exchange:
            assert one.outcome is Outcome.FAILED
            assert one.point_count == 0
            assert len(one.failures) == 3


async def test_exchanges_that_stand_still_are_told_and_not_believed(rig: RunningExchange, store: MetricStore) -> None:
    """Five minutes behind our clock, their candles are stored where they belong, and their tickers nowhere."""
    rig.clear_faults()
    async with opened(rig, store, PinnedClock(offset_seconds=300)) as collector:
        slot = last_complete_slot(collector.clock.now())
        report = await collector.collect(slot)

    for one in report.exchanges:
        assert one.point_count == 0
        assert all("its newest complete candle is of" in words for words in one.failures.values())
        assert len(one.failures) == 3
        known = column(store, one.exchange, Measure.PRICE, Window.ending(slot + 1, 60))
        assert slot - 6 <= max(known) <= slot - 4


async def test_a_backfill_reaches_two_days(store: MetricStore, collector: Collector) -> None:
    """Where candles reach back without end every measure of the last day is whole: the day before it is known, too."""
    window = window_since(2 * DAY_SLOTS, collector.clock.now())

    report = await backfill(collector, window)

    assert dict(report.failures) == {}
    day = Window(Slot(window.end - DAY_SLOTS), window.end)
    for exchange in ("BINANCE", "COINBASE"):
        for measure in Measure:
            assert len(column(store, exchange, measure, day)) == DAY_SLOTS
        minutes = column(store, exchange, Measure.VOLUME_1M, day)
        assert column(store, exchange, Measure.VOLUME, day)[window.end - 1] == math.fsum(minutes.values())
