"""Runs against a server that speaks Kraken, healthy and under each of its faults.

Whatever the fault, a point that is stored is one that a healthy run would have stored; what is not stored is reported
with the exchange's own words.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import numpy as np
import pytest

from services.collector.collecting import Collector
from services.collector.exchanges.base import ExchangeOptions
from services.collector.job import open_collector
from services.collector.reporting import ExchangeReport
from services.core.catalog.base import FixedCatalog, Market
from services.core.clock import Clock
from services.core.model import Outcome, Quality, Slot, Window, last_complete_slot
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support.exchanges import PinnedClock, RunningExchange, running_exchange

PAIRS = ("BTCUSD", "ETHUSD", "XRPUSD")
CANDLE_MEASURES = {"price", "volume_1m"}
FAULTS = {
    "http_429:1": "HTTP 429 Too Many Requests",
    "http_503": "HTTP 503",
    "html_520": "HTTP 520 Unknown Error: 520: Web server is returning an unknown error",
    "kraken_rate_limit": "EAPI:Rate limit exceeded",
    "kraken_unavailable": "EService:Unavailable",
    "truncated_json": "an answer that is not JSON",
    "reset": "the connection",
    "slow:30": "no answer within 1.5 s",
}
SPOILT = {
    "wrong_type": "is None, not a number",
    "wrong_type:null": "is None, not a number",
    "wrong_type:nan": "is 'NaN', not a number",
    "wrong_type:negative": "not above 0",
}


@pytest.fixture(scope="module")
def rig() -> Iterator[RunningExchange]:
    """A server whose BTC had a gap from 30 to 20 minutes ago, and a burst of volume in the tenth minute ago."""
    with running_exchange("--gap", "kraken:BTC/USD@-30:-20", "--volume-spike", "ETH/USD@-10:400") as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(rig: RunningExchange) -> None:
    """Begin without faults."""
    rig.clear_faults()


@pytest.fixture
def clock() -> Clock:
    """The machine's, as far as a test wants it."""
    return PinnedClock()


@pytest.fixture
async def collector(rig: RunningExchange, clock: Clock, request: pytest.FixtureRequest) -> AsyncIterator[Collector]:
    """A collector of three pairs on an empty store in memory; impatient where a test is about slow answers."""
    timeout_seconds = 1.5 if "slow" in request.node.name else 20.0
    with open_store("memory:", clock=clock) as store:
        async with opened(rig, store, clock, timeout_seconds) as collector:
            yield collector


def opened(
    rig: RunningExchange, store: MetricStore, clock: Clock, timeout_seconds: float = 20.0
) -> AbstractAsyncContextManager[Collector]:
    """Open a collector of three pairs at the rig."""
    options = ExchangeOptions(
        base_url=rig.url, calls_per_second=1000, burst=1000, timeout_seconds=timeout_seconds, retry_seconds=0.01
    )
    return open_collector(
        store, catalog=FixedCatalog(Market("KRAKEN", PAIRS)), exchange_options={"kraken": options}, clock=clock
    )


def stored(store: MetricStore) -> dict[tuple[str, str, int], tuple[float, Quality]]:
    """Every point of the last two days, by pair, measure and slot."""
    now = last_complete_slot(time.time())
    columns = store.read_window(Window(Slot(now - 2880), Slot(now + 2)))
    return {
        (series.metric.partition(":")[2], series.measure.value, columns.window.start + int(i)): (
            float(columns.values[row, i]),
            Quality(columns.qualities[row, i]),
        )
        for row, series in enumerate(columns.series)
        for i in np.flatnonzero(columns.qualities[row])
    }


async def run(collector: Collector) -> tuple[Slot, ExchangeReport, dict[tuple[str, str, int], tuple[float, Quality]]]:
    """Make the run of the slot that has just ended; return it, what it reported, and the points of that slot."""
    slot = last_complete_slot(collector.clock.now())
    report = (await collector.collect(slot)).exchanges[0]
    return slot, report, {key: point for key, point in stored(collector.reader).items() if key[2] == slot}  # type: ignore[arg-type]  # the reader is the whole store here


async def assert_true(rig: RunningExchange, collector: Collector, *, ticker_price: bool = False) -> None:
    """Fail unless every stored point is one that a healthy run stores.

    What only a ticker tells moves within the minute: the day's volume by a little, and `ticker_price` with the trades.
    """
    rig.clear_faults()
    slot = last_complete_slot(collector.clock.now())
    with open_store("memory:") as store:
        async with opened(rig, store, collector.clock) as healthy:
            await healthy.collect(slot)
        truth = stored(store)
    points = stored(collector.reader)  # type: ignore[arg-type]  # as above
    assert set(points) <= set(truth)
    for key, (value, _) in points.items():
        loose = key[1] == "volume" or (ticker_price and key[2] == slot)
        assert math.isclose(value, truth[key][0], rel_tol=0.02 if loose else 0.0), key


async def test_a_healthy_run(rig: RunningExchange, collector: Collector) -> None:
    """Every pair has price and volume_1m as its candles say, 12 hours of them, and the day's volume of the ticker."""
    slot, report, own = await run(collector)

    assert (Outcome.OK, {}, ()) == (report.outcome, dict(report.failures), report.remarks)
    assert {(pair, measure) for pair in PAIRS for measure in ("price", "volume", "volume_1m")} <= {k[:2] for k in own}
    points = stored(collector.reader)  # type: ignore[arg-type]  # the reader is the whole store here
    for pair, code in zip(PAIRS, ("XXBTZUSD", "XETHZUSD", "XXRPZUSD"), strict=True):
        candles = rig.kraken("OHLC", pair=code, interval=1)[code]
        told = {row[0] // 60: (float(row[4]), float(row[6])) for row in candles if slot - 715 <= row[0] // 60 <= slot}
        assert told == {
            s: (points[pair, "price", s][0], points[pair, "volume_1m", s][0])
            for p, measure, s in points
            if p == pair and measure == "price" and s >= slot - 715
        }
    assert {Quality.OBSERVED} == {quality for _, quality in own.values()}
    assert all(quality is Quality.BACKFILLED for key, (_, quality) in points.items() if key[2] != slot)


async def test_a_gap_is_missing_and_a_burst_is_seen(rig: RunningExchange, collector: Collector) -> None:
    """Ten minutes without candles have no points; the volume of the burst stands out."""
    await run(collector)
    epoch = Slot(rig.stats()["epoch"] // 60)
    points = stored(collector.reader)  # type: ignore[arg-type]  # the reader is the whole store here
    gap = range(epoch - 30, epoch - 20)
    assert not [key for key in points if key[0] == "BTCUSD" and key[2] in gap]
    assert all(("ETHUSD", "price", slot) in points for slot in gap)
    volumes = [points["ETHUSD", "volume_1m", slot][0] for slot in range(epoch - 40, epoch - 1)]
    assert points["ETHUSD", "volume_1m", epoch - 10][0] == max(volumes) > 5 * sorted(volumes)[len(volumes) // 2]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["Ticker", "OHLC", "AssetPairs"])
async def test_a_hiccup_costs_nothing(rig: RunningExchange, collector: Collector, call: str, fault: str) -> None:
    """Answered wrongly twice, a call is made a third time, and the run is whole."""
    rig.post_fault(fault, count=2, path=f"/0/public/{call}")

    _, report, own = await run(collector)

    assert (Outcome.OK, {}, ()) == (report.outcome, dict(report.failures), report.remarks)
    assert {(pair, measure) for pair in PAIRS for measure in ("price", "volume", "volume_1m")} <= {k[:2] for k in own}
    await assert_true(rig, collector)


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_tickers_candles_still_tell(rig: RunningExchange, collector: Collector, fault: str) -> None:
    """Price and volume_1m are collected; the day's volume is not, and each pair has the exchange's words."""
    rig.post_fault(fault, path="/0/public/Ticker")

    _, report, own = await run(collector)

    assert CANDLE_MEASURES <= {measure for _, measure, _ in own}
    assert "volume" not in {measure for _, measure, _ in own}
    assert set(PAIRS) == set(report.failures)
    assert all(FAULTS[fault] in words for words in report.failures.values())
    assert Outcome.PARTIAL is report.outcome
    await assert_true(rig, collector)


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_candles_the_ticker_still_tells(rig: RunningExchange, collector: Collector, fault: str) -> None:
    """Price and the day's volume are the ticker's; volume_1m is missing; the next run, healthy again, repairs it."""
    rig.post_fault(fault, path="/0/public/OHLC")

    slot, report, own = await run(collector)

    assert {(pair, measure, slot) for pair in PAIRS for measure in ("price", "volume")} == set(own)
    assert all(FAULTS[fault] in words for words in report.failures.values())
    assert Outcome.PARTIAL is report.outcome
    await assert_true(rig, collector, ticker_price=True)
    _, again, healed = await run(collector)
    assert Outcome.OK is again.outcome
    assert own.items() <= healed.items()
    assert {(pair, "volume_1m", slot) for pair in PAIRS} <= set(healed)


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_asset_pairs_names_are_guessed(rig: RunningExchange, collector: Collector, fault: str) -> None:
    """All is collected, and the failure is told beside."""
    rig.post_fault(fault, path="/0/public/AssetPairs")

    _, report, own = await run(collector)

    assert {(pair, measure) for pair in PAIRS for measure in ("price", "volume", "volume_1m")} <= {k[:2] for k in own}
    (remark,) = report.remarks
    assert remark.startswith("AssetPairs: ")
    assert FAULTS[fault] in remark
    assert (Outcome.PARTIAL, {}) == (report.outcome, dict(report.failures))
    await assert_true(rig, collector)


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_anything_nothing_is_stored(rig: RunningExchange, collector: Collector, fault: str) -> None:
    """The run fails, says why for each pair, and is on record."""
    rig.post_fault(fault)

    _, report, _ = await run(collector)

    assert {} == stored(collector.reader)  # type: ignore[arg-type]  # the reader is the whole store here
    assert Outcome.FAILED is report.outcome
    assert all(FAULTS[fault] in words for words in report.failures.values())
    (recorded,) = collector.reader.latest_runs()
    assert (Outcome.FAILED, 0) == (recorded.outcome, recorded.point_count)
    assert FAULTS[fault] in recorded.error


@pytest.mark.parametrize("fault", SPOILT)
@pytest.mark.parametrize("call", ["Ticker", "OHLC"])
async def test_wrong_values_are_told_and_never_stored(
    rig: RunningExchange, collector: Collector, call: str, fault: str
) -> None:
    """null, NaN, negative prices: the pair's answer is not used, the other call's is, and the words name the value."""
    rig.post_fault(fault, path=f"/0/public/{call}")

    _, report, own = await run(collector)

    assert set(PAIRS) == set(report.failures)
    assert all(SPOILT[fault] in words for words in report.failures.values())
    assert Outcome.PARTIAL is report.outcome
    expected = CANDLE_MEASURES if call == "Ticker" else {"price", "volume"}
    assert expected <= {measure for _, measure, _ in own}
    assert all(value > 0 for (_, measure, _), (value, _) in own.items() if not measure.startswith("change"))
    await assert_true(rig, collector, ticker_price=call == "OHLC")


@pytest.mark.parametrize("call", ["Ticker", "OHLC", "AssetPairs"])
async def test_an_error_beside_a_result_costs_no_pair(rig: RunningExchange, collector: Collector, call: str) -> None:
    """`partial`: the pairs that are there are used, the one that is not is asked for again, and the words are told."""
    rig.post_fault("partial", path=f"/0/public/{call}")

    _, report, own = await run(collector)

    assert {(pair, measure) for pair in PAIRS for measure in ("price", "volume", "volume_1m")} <= {k[:2] for k in own}
    (remark,) = report.remarks
    assert remark.endswith("EQuery:Unknown asset pair")
    assert Outcome.PARTIAL is report.outcome
    await assert_true(rig, collector)


async def test_an_unknown_pair_costs_itself_only(rig: RunningExchange, clock: Clock) -> None:
    """One unknown pair fails Kraken's whole Ticker call: the others are asked for singly and are whole."""
    options = {"kraken": ExchangeOptions(base_url=rig.url, burst=1000)}
    catalog = FixedCatalog(Market("KRAKEN", ("BTCUSD", "NOSUCHUSD", "XRPUSD")))
    with open_store("memory:", clock=clock) as store:
        async with open_collector(store, catalog=catalog, exchange_options=options, clock=clock) as collector:
            _, report, own = await run(collector)

    assert {"NOSUCHUSD": "EQuery:Unknown asset pair"} == dict(report.failures)
    assert {"BTCUSD", "XRPUSD"} == {pair for pair, _, _ in own}
    assert Outcome.PARTIAL is report.outcome


async def test_an_exchange_that_stands_still_is_told_and_not_believed(rig: RunningExchange) -> None:
    """Five minutes behind our clock, its candles are stored where they belong, and its ticker nowhere."""
    clock = PinnedClock(offset_seconds=300)
    rig.post_fault("stale")
    with open_store("memory:", clock=clock) as store:
        async with opened(rig, store, clock) as collector:
            slot = last_complete_slot(clock.now())
            report = (await collector.collect(slot)).exchanges[0]
        points = stored(store)

    assert slot - 5 == max(key[2] for key in points)
    assert "volume" not in {measure for _, measure, _ in points}
    assert all("its newest complete candle is of" in words for words in report.failures.values())
    assert Outcome.FAILED is report.outcome


async def test_a_clock_behind_the_exchange_stores_no_future(rig: RunningExchange) -> None:
    """Candles after our slot are left for the run whose slot they are."""
    clock = PinnedClock(offset_seconds=-300)
    with open_store("memory:", clock=clock) as store:
        async with opened(rig, store, clock) as collector:
            slot = last_complete_slot(clock.now())
            await collector.collect(slot)
        assert slot == max(key[2] for key in stored(store))


async def test_a_run_makes_few_calls(rig: RunningExchange, collector: Collector) -> None:
    """One Ticker and one AssetPairs for all pairs, one OHLC a pair; the next run asks for no names again."""
    rig.clear_stats()
    await run(collector)
    first = rig.stats()["requests"]
    rig.clear_stats()
    await run(collector)

    assert (1, 1) == (first["/0/public/Ticker"], first["/0/public/AssetPairs"])
    assert 3 <= first["/0/public/OHLC"] <= 6, "a candle call a pair, and one of longer candles where they help"
    assert {"/0/public/Ticker": 1} == rig.stats()["requests"] or "/0/public/OHLC" in rig.stats()["requests"]


async def test_late_concurrent_and_repeated_runs_leave_the_same_points(rig: RunningExchange, clock: Clock) -> None:
    """Five runs of three slots, two of them at once and all but one late, leave what one run leaves."""
    newest = last_complete_slot(clock.now())
    with open_store("memory:", clock=clock) as once, open_store("memory:", clock=clock) as often:
        async with opened(rig, once, clock) as collector:
            await collector.collect(newest)
        async with opened(rig, often, clock) as one, opened(rig, often, clock) as two:
            await one.collect(Slot(newest - 2))
            await asyncio.gather(one.collect(newest), two.collect(newest))
            await two.collect(Slot(newest - 1))
            await one.collect(newest)
        expected, actual = stored(once), stored(often)

    # A run for an older slot reaches further back.
    reached = min(key[2] for key in expected)
    assert set(expected) == {key for key in actual if key[2] >= reached}
    for key, (value, quality) in expected.items():
        assert quality is actual[key][1]
        assert math.isclose(value, actual[key][0], rel_tol=0.01 if key[1] == "volume" else 0.0), key
