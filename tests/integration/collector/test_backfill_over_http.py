"""Backfills against a server that speaks Kraken: a first day is whole, and what is rebuilt is what candles say."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
import pytest

from services.collector.backfill import backfill, window_since
from services.collector.collecting import Collector
from services.collector.exchanges.base import ExchangeOptions
from services.collector.job import open_collector
from services.collector.progress import Progress
from services.core.catalog.base import FixedCatalog, Market
from services.core.clock import Clock, SystemClock
from services.core.model import DAY_SLOTS, Measure, Quality, Series, Slot, Window, last_complete_slot
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support.exchanges import RunningExchange, running_exchange
from tests.support.needs import ROOT

PAIRS = {"BTCUSD": "XXBTZUSD", "ETHUSD": "XETHZUSD", "XRPUSD": "XXRPZUSD"}
TRADES = "/0/public/Trades"
GAP = (-1003, -962)
"""Minutes from the epoch in which BTC had an outage, out of the reach of candles and not aligned with longer ones."""


class ImpatientClock(SystemClock):
    """The machine's time, with pauses that cost none."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def rig() -> Iterator[RunningExchange]:
    """A server with an outage of BTC sixteen hours ago."""
    with running_exchange("--gap", f"kraken:BTC/USD@{GAP[0]}:{GAP[1]}") as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(rig: RunningExchange) -> None:
    """Begin without faults."""
    rig.clear_faults()


@pytest.fixture
def store() -> Iterator[MetricStore]:
    """An empty store."""
    with open_store("memory:") as opened:
        yield opened


@pytest.fixture
async def collector(rig: RunningExchange, store: MetricStore) -> AsyncIterator[Collector]:
    """A collector of three pairs."""
    async with collector_at(rig, store) as opened:
        yield opened


def collector_at(rig: RunningExchange, store: MetricStore) -> AbstractAsyncContextManager[Collector]:
    """Open a collector of three pairs that loses no time."""
    options = ExchangeOptions(base_url=rig.url, calls_per_second=1000, burst=1000, retry_seconds=0.01)
    clock: Clock = ImpatientClock()
    catalog = FixedCatalog(Market("KRAKEN", tuple(PAIRS)))
    return open_collector(store, catalog=catalog, exchange_options={"kraken": options}, clock=clock)


def column(store: MetricStore, pair: str, measure: Measure, window: Window) -> dict[int, float]:
    """The points of a series, by slot."""
    values = store.read_series(Series(f"KRAKEN:{pair}", measure), window).values
    return {window.start + int(i): float(values[i]) for i in np.flatnonzero(np.isfinite(values))}


def longer_candles(rig: RunningExchange, pair: str, window: Window) -> list[tuple[int, float, float]]:
    """The exchange's candles of five minutes within a window: start slot, close, volume."""
    rows = rig.kraken("OHLC", pair=PAIRS[pair], interval=5)[PAIRS[pair]]
    candles = [(row[0] // 60, float(row[4]), float(row[6])) for row in rows]
    return [candle for candle in candles if window.start <= candle[0] and candle[0] + 5 <= window.end]


async def test_a_first_day_is_whole(rig: RunningExchange, store: MetricStore, collector: Collector) -> None:
    """Every minute has price and volume_1m, in agreement with candles of one minute where there are any and with those
    of five minutes before; the outage stays a gap.
    """
    window = window_since(DAY_SLOTS, time.time())
    seen: list[Progress] = []

    report = await backfill(collector, window, progress=seen.append)

    epoch = rig.stats()["epoch"] // 60
    gap = range(epoch + GAP[0], epoch + GAP[1])
    assert ({}, 0) == (report.failures, report.exit_code)
    for pair, code in PAIRS.items():
        price, volume = (column(store, pair, m, window) for m in (Measure.PRICE, Measure.VOLUME_1M))
        expected = set(range(window.start, window.end)) - (set(gap) if pair == "BTCUSD" else set())
        assert expected == set(price) == set(volume)
        minutes = {row[0] // 60: row for row in rig.kraken("OHLC", pair=code, interval=1)[code]}
        for slot in set(minutes) & set(price):
            assert (float(minutes[slot][4]), float(minutes[slot][6])) == (price[slot], volume[slot])
        for start, close, total in longer_candles(rig, pair, window):
            inside = [slot for slot in range(start, start + 5) if slot in price]
            assert close == price[inside[-1]], "the last of the minutes closes the longer candle"
            assert total == pytest.approx(sum(volume[slot] for slot in inside), abs=1e-6)
    assert 3 * DAY_SLOTS == seen[-1].total == seen[-1].done
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].rate > 0
    assert seen[-1].seconds_left == 0
    columns = store.read_window(window)
    assert {Quality.BACKFILLED} == set(columns.qualities[columns.qualities > 0].tolist())


async def test_change_and_volume_are_known_where_a_day_before_is(
    rig: RunningExchange, store: MetricStore, collector: Collector
) -> None:
    """Of the first day changes are those that longer candles tell exactly; two days make the second one whole."""
    day = window_since(DAY_SLOTS, time.time())
    await backfill(collector, day)
    sparse = column(store, "ETHUSD", Measure.CHANGE_ABSOLUTE, day)
    assert {slot for slot in range(day.start, day.end) if (slot + 1) % 5 == 0} == set(sparse)
    assert {day.end - 1} == set(column(store, "ETHUSD", Measure.VOLUME, day))

    await backfill(collector, Window(Slot(day.start - DAY_SLOTS), day.end))

    price = column(store, "ETHUSD", Measure.PRICE, Window(Slot(day.start - DAY_SLOTS), day.end))
    change, percentage = (column(store, "ETHUSD", m, day) for m in (Measure.CHANGE_ABSOLUTE, Measure.CHANGE_PERCENTAGE))
    assert {slot: price[slot] - price[slot - DAY_SLOTS] for slot in range(day.start, day.end)} == change
    assert sparse.items() <= change.items()
    assert all(percentage[slot] == 100 * change[slot] / price[slot - DAY_SLOTS] for slot in change)
    volumes = column(store, "ETHUSD", Measure.VOLUME, day)
    assert set(range(day.start, day.end)) == set(volumes)
    told = float(rig.kraken("Ticker", pair="ETHUSD")["XETHZUSD"]["v"][1])
    assert volumes[day.end - 1] == pytest.approx(told, rel=0.01), "Kraken's own figure, of some seconds later"


async def test_a_backfill_repeated_asks_and_writes_nothing(
    rig: RunningExchange, store: MetricStore, collector: Collector
) -> None:
    """What is there is there; only the outage is looked at again, for it might be filled one day."""
    window = window_since(DAY_SLOTS, time.time())
    await backfill(collector, window)
    rig.clear_stats()
    seen: list[Progress] = []

    report = await backfill(collector, window, progress=seen.append)

    assert report.point_count == 0
    assert rig.stats()["requests"].get(TRADES, 0) <= 2
    assert seen[-1].done == seen[-1].total


async def test_a_backfill_beside_runs_takes_nothing_back(
    rig: RunningExchange, store: MetricStore, collector: Collector
) -> None:
    """A point that a run observed while the backfill worked stays OBSERVED."""
    slot = last_complete_slot(time.time())

    await asyncio.gather(backfill(collector, window_since(DAY_SLOTS, time.time())), collector.collect(slot))

    columns = store.read_series(Series("KRAKEN:BTCUSD", Measure.PRICE), Window.ending(slot + 1))
    assert Quality.OBSERVED == columns.qualities[-1]
    assert 41 == np.isnan(columns.values).sum()


@pytest.mark.parametrize(
    "fault",
    ["http_429:1", "http_503", "html_520", "kraken_rate_limit", "kraken_unavailable", "truncated_json", "reset"],
)
async def test_hiccups_of_trades_cost_nothing(
    rig: RunningExchange, store: MetricStore, collector: Collector, fault: str
) -> None:
    """Even five in a row: the backfill waits and goes on where it was."""
    rig.post_fault(fault, count=5, path=TRADES)
    window = window_since(DAY_SLOTS, time.time())

    report = await backfill(collector, window)

    assert {} == report.failures
    assert DAY_SLOTS == len(column(store, "ETHUSD", Measure.PRICE, window))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("http_503", "HTTP 503"),
        ("kraken_unavailable", "EService:Unavailable"),
        ("truncated_json", "not JSON"),
        ("wrong_type:nan", "a trade's price is 'NaN', not a number"),
        ("wrong_type:null", "a trade's price is None, not a number"),
        ("wrong_type:negative", "not above 0"),
    ],
)
async def test_without_trades_candles_are_filled(
    rig: RunningExchange, store: MetricStore, collector: Collector, fault: str, words: str
) -> None:
    """Half a day is stored, nothing wrong is, each metric has the exchange's words, and the next backfill goes on."""
    rig.post_fault(fault, path=TRADES)
    window = window_since(DAY_SLOTS, time.time())

    report = await backfill(collector, window)

    assert {f"KRAKEN:{pair}" for pair in PAIRS} == set(report.failures)
    assert all(words in said for said in report.failures.values())
    assert report.exit_code == 1
    price = column(store, "ETHUSD", Measure.PRICE, window)
    assert 715 < len(price) < 725
    assert min(price.values()) > 0
    rig.clear_faults()
    again = await backfill(collector, window)
    assert {} == again.failures
    assert DAY_SLOTS == len(column(store, "ETHUSD", Measure.PRICE, window))


async def test_an_error_beside_trades_is_told(rig: RunningExchange, store: MetricStore, collector: Collector) -> None:
    """`partial`: what is there is used, and the words are kept."""
    rig.post_fault("partial", path=TRADES)
    window = window_since(DAY_SLOTS, time.time())

    report = await backfill(collector, window)

    assert {"EQuery:Unknown asset pair"} == set(report.failures.values())
    assert DAY_SLOTS == len(column(store, "ETHUSD", Measure.PRICE, window))


async def test_the_pace_of_trades_is_kept(rig: RunningExchange, store: MetricStore) -> None:
    """Calls that page through trades are at least as far apart as the pace says."""
    rig.clear_stats()
    options = ExchangeOptions(base_url=rig.url, calls_per_second=20)
    catalog = FixedCatalog(Market("KRAKEN", tuple(PAIRS)))
    async with open_collector(store, catalog=catalog, exchange_options={"KRAKEN": options}) as slow:
        await backfill(slow, window_since(DAY_SLOTS, time.time()))

    times = rig.stats()["times"][TRADES]
    assert len(times) >= 10
    # The server's clock notes a request when it arrives, which jitters a little around when it was sent.
    assert np.median(np.diff(times)) >= 0.045


_BACKFILL = """
import asyncio, sys, time
from services.collector.backfill import backfill, window_since
from services.collector.exchanges.base import ExchangeOptions
from services.collector.job import open_collector
from services.core.catalog.base import DEFAULT_MARKETS, FixedCatalog
from services.core.store.opening import open_store
url, path = sys.argv[1:]
options = {"KRAKEN": ExchangeOptions(base_url=url, calls_per_second=1000)}
tell = lambda progress: print(progress.message, file=sys.stderr, flush=True)
async def main():
    with open_store(path) as store:
        async with open_collector(store, catalog=FixedCatalog(*DEFAULT_MARKETS), exchange_options=options) as collector:
            return (await backfill(collector, window_since(1440, time.time()), progress=tell)).exit_code
sys.exit(asyncio.run(main()))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_backfill_keeps_what_it_had(
    rig: RunningExchange, tmp_path: Path, number: signal.Signals
) -> None:
    """Ended among the trades it leaves what it wrote, and the next one goes on from there."""
    path = tmp_path / "a.db"
    command = [sys.executable, "-c", _BACKFILL, rig.url, f"sqlite:{path}"]
    rig.post_fault("slow:0.3", path=TRADES)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while ": candles" in (line := process.stderr.readline()) or "in the store" in line:
        pass
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (-number, "") == (process.returncode, out)
    window = window_since(DAY_SLOTS, time.time())
    with open_store(f"sqlite:{path}") as store:
        kept = [len(column(store, pair, Measure.PRICE, window)) for pair in PAIRS]
    assert all(count >= 710 for count in kept), "candles of all pairs were written first"
    assert any(count > 740 for count in kept), "and the first page of trades before it was told of"

    rig.clear_faults()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    window = window_since(DAY_SLOTS - 5, time.time())
    with open_store(f"sqlite:{path}") as store:
        assert DAY_SLOTS - 5 == len(column(store, "ETHUSD", Measure.PRICE, window))
