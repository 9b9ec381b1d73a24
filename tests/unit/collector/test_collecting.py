"""The law of a run: it adds what the store lacks, changes nothing, and one failure leaves the rest alone."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from services.collector import exchange_run
from services.collector.collecting import Collector, in_shard
from services.collector.exchange_run import read_ledgers
from services.collector.exchanges.base import Sample, Ticker
from services.core.catalog.base import Catalog, FixedCatalog, Market
from services.core.clock import ManualClock
from services.core.errors import (
    ExchangeRefusedError,
    ExchangeUnavailableError,
    InvalidInputError,
    InvalidSettingError,
    StoreUnavailableError,
)
from services.core.model import Measure, Outcome, Points, Quality, Run, Series, Slot, Window, WindowColumns
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support.exchanges import ScriptedExchange

NOW = Slot(29_660_000)
"""The slot that the runs of these tests are for."""
BTC, ETH = "BTCUSD", "ETHUSD"


@pytest.fixture
def clock() -> ManualClock:
    """Three seconds after the slot has ended."""
    return ManualClock((NOW + 1) * 60 + 3)


@pytest.fixture
def store(clock: ManualClock) -> Iterator[MetricStore]:
    """An empty store on the same clock."""
    with open_store("memory:", clock=clock) as opened:
        yield opened


@pytest.fixture
def exchange() -> ScriptedExchange:
    """Kraken with ten minutes of candles of one pair, up to the slot."""
    scripted = ScriptedExchange("KRAKEN", NOW)
    scripted.minutes = {BTC: {NOW - i: (100.0 - i, 1.0 + i) for i in range(10)}}
    scripted.tickers = {BTC: Ticker(100.5, 5000.0)}
    return scripted


def collector_of(
    store: MetricStore, clock: ManualClock, *exchanges: ScriptedExchange, catalog: Catalog | None = None
) -> Collector:
    """A collector on these exchanges and, unless a catalog is given, on all their pairs."""
    return Collector(
        reader=store,
        writer=store,
        catalog=catalog or FixedCatalog(*(Market(e.name, tuple(e.minutes)) for e in exchanges)),
        exchange_options={},
        clock=clock,
        exchanges={e.name: e for e in exchanges},
    )


def stored(store: MetricStore) -> dict[tuple[str, str, int], tuple[float, Quality]]:
    """Every point of the last two days."""
    points = {}
    columns = store.read_window(Window(Slot(NOW - 2880), Slot(NOW + 2)))
    for row, series in enumerate(columns.series):
        for i in np.flatnonzero(columns.qualities[row]):
            key = series.metric, series.measure.value, columns.window.start + int(i) - NOW
            points[key] = float(columns.values[row, i]), Quality(columns.qualities[row, i])
    return points


async def test_a_run_writes_its_slot_observed_and_repairs_the_rest(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """On time, the slot's candle and the ticker's day volume are OBSERVED; earlier candles are BACKFILLED."""
    report = await collector_of(store, clock, exchange).collect(NOW)

    points = stored(store)
    assert (100.0, Quality.OBSERVED) == points["KRAKEN:BTCUSD", "price", 0]
    assert (1.0, Quality.OBSERVED) == points["KRAKEN:BTCUSD", "volume_1m", 0]
    assert (5000.0, Quality.OBSERVED) == points["KRAKEN:BTCUSD", "volume", 0]
    assert (91.0, Quality.BACKFILLED) == points["KRAKEN:BTCUSD", "price", -9]
    assert len(points) == 21
    assert report.exit_code == 0
    assert (3, 18) == (report.exchanges[0].point_count, report.exchanges[0].repaired_count)


async def test_a_run_repeated_changes_nothing(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """The exchange may have changed its mind and the ticker moved on: what is stored stays, and counts again."""
    collector = collector_of(store, clock, exchange)
    first = await collector.collect(NOW)
    before = stored(store)
    exchange.minutes[BTC] = dict.fromkeys(exchange.minutes[BTC], (1.0, 1.0))
    exchange.tickers[BTC] = Ticker(7.0, 7.0)
    clock.advance(20)

    again = await collector.collect(NOW)

    assert before == stored(store)
    assert first.exchanges[0].point_count == again.exchanges[0].point_count
    assert store.newest_run_slot() == NOW


async def test_a_late_run_stamps_no_ticker_on_an_old_slot(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """A run an hour late writes what candles tell, BACKFILLED, and does not even ask for a ticker."""
    clock.advance(3600)

    report = await collector_of(store, clock, exchange).collect(NOW)

    points = stored(store)
    assert [] == exchange.questions("sample")
    assert (100.0, Quality.BACKFILLED) == points["KRAKEN:BTCUSD", "price", 0]
    assert ("KRAKEN:BTCUSD", "volume", 0) not in points
    assert report.exit_code == 0


async def test_a_late_run_and_the_next_run_leave_the_same_points(
    clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """Whether a missed slot is run late or repaired by the next run makes no difference."""
    clock.advance(60)
    exchange.newest = Slot(NOW + 1)
    exchange.minutes[BTC][NOW + 1] = (101.0, 2.0)
    results = []
    for slots in ([NOW, NOW + 1], [NOW + 1, NOW], [NOW + 1]):
        with open_store("memory:", clock=clock) as store:
            for slot in slots:
                await collector_of(store, clock, exchange).collect(Slot(slot))
            results.append(stored(store))

    assert results[0] == results[1] == results[2]


async def test_two_runs_at_once_leave_the_points_of_one(clock: ManualClock, exchange: ScriptedExchange) -> None:
    """Two runs of a slot that read before either has written add the same points."""
    with open_store("memory:", clock=clock) as store:
        exchange.gate = asyncio.Event()
        runs = [asyncio.create_task(collector_of(store, clock, exchange).collect(NOW)) for _ in range(2)]
        while len(exchange.questions("candles")) < 2:  # noqa: ASYNC110  what the runs are at is seen from outside only
            await asyncio.sleep(0)
        exchange.gate.set()
        await asyncio.gather(*runs)
        both = stored(store)
    with open_store("memory:", clock=clock) as store:
        await collector_of(store, clock, exchange).collect(NOW)
        alone = stored(store)

    assert alone == both


async def test_holes_anywhere_within_reach_are_repaired(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """A hole in the middle of the last 720 minutes is filled, and its neighbours are left as they are."""
    exchange.minutes[BTC] = {NOW - i: (100.0, 1.0) for i in range(720)}
    known = [NOW - i for i in range(1, 720) if i not in (300, 301)]
    measures = Measure.PRICE, Measure.VOLUME_1M
    rows = [(Series("KRAKEN:BTCUSD", m), slot, 55.0, Quality.OBSERVED) for m in measures for slot in known]
    store.write(Points.of(rows))

    await collector_of(store, clock, exchange).collect(NOW)

    points = stored(store)
    assert (100.0, Quality.BACKFILLED) == points["KRAKEN:BTCUSD", "price", -300]
    assert (1.0, Quality.BACKFILLED) == points["KRAKEN:BTCUSD", "volume_1m", -301]
    assert (55.0, Quality.OBSERVED) == points["KRAKEN:BTCUSD", "price", -299]


async def test_a_candle_that_is_not_there_is_a_missing_point(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """Without a candle there is no price, whatever the ticker says; the day's volume is still known."""
    del exchange.minutes[BTC][NOW]

    report = await collector_of(store, clock, exchange).collect(NOW)

    own = {measure for _, measure, place in stored(store) if place == 0}
    assert {"volume"} == own
    assert report.exit_code == 0


async def test_the_ticker_stands_in_for_candles_that_cannot_be_read(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """The price is the ticker's last then, the minute's volume stays unknown, and the failure is reported."""
    exchange.candle_failures[BTC] = ExchangeUnavailableError("KRAKEN", "EService:Unavailable", BTC)

    report = await collector_of(store, clock, exchange).collect(NOW)

    assert {
        ("KRAKEN:BTCUSD", "price", 0): (100.5, Quality.OBSERVED),
        ("KRAKEN:BTCUSD", "volume", 0): (5000.0, Quality.OBSERVED),
    } == stored(store)
    assert {BTC: "EService:Unavailable"} == report.exchanges[0].failures
    assert Outcome.PARTIAL is report.exchanges[0].outcome
    assert report.exit_code == 1


async def test_volume_is_the_sum_of_a_day_of_minutes(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """With 1440 minutes known the sum counts, exactly, a minute without trades as 0, and not the ticker."""
    minutes = {Slot(NOW - i): 0.1 if i % 3 else 0.0 for i in range(1440)}
    rows = [(Series("KRAKEN:BTCUSD", Measure.VOLUME_1M), s, v, Quality.OBSERVED) for s, v in minutes.items() if s < NOW]
    store.write(Points.of(rows))
    exchange.minutes[BTC][NOW] = (100.0, minutes[NOW])

    await collector_of(store, clock, exchange).collect(NOW)

    assert math.fsum(minutes.values()) == stored(store)["KRAKEN:BTCUSD", "volume", 0][0]


async def test_many_pairs_are_collected_as_few_are(store: MetricStore, clock: ManualClock) -> None:
    """What is known of many series is read at once; a run of them leaves what runs of each would."""
    exchange = ScriptedExchange("KRAKEN", NOW)
    pairs = [f"T{i:03}USD" for i in range(30)]
    exchange.minutes = {pair: {NOW - i: (i + 1.0, 2.0) for i in range(5)} for pair in pairs}
    exchange.tickers = {pair: Ticker(1.0, 9.0) for pair in pairs}
    price = Series("KRAKEN:T007USD", Measure.PRICE)
    store.write(Points.of([(price, NOW - 1, 55.0, Quality.OBSERVED), (price, NOW - 1440, 2.0, Quality.OBSERVED)]))

    first = await collector_of(store, clock, exchange).collect(NOW)
    before = stored(store)
    await collector_of(store, clock, exchange).collect(NOW)

    assert before == stored(store)
    assert 30 * 3 + 2 == first.exchanges[0].point_count
    assert (55.0, Quality.OBSERVED) == before["KRAKEN:T007USD", "price", -1]
    assert (-1.0, Quality.OBSERVED) == before["KRAKEN:T007USD", "change_absolute", 0]
    assert {(f"KRAKEN:{pair}", "price", -4) for pair in pairs} <= set(before)


def test_much_that_is_known_is_read_a_measure_at_a_time(store: MetricStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions that would be answered by more values than the bound are parted, and tell what one for all tells."""
    pairs = [f"T{i}USD" for i in range(4)]
    known = [
        (Series(f"KRAKEN:{pair}", measure), NOW - i, 1.0 + i, Quality.BACKFILLED)
        for pair, measure, i in itertools.product(pairs, (Measure.PRICE, Measure.VOLUME), range(0, 2160, 7))
    ]
    store.write(Points.of(known))
    asked: list[tuple[int, int]] = []
    read = store.read_window

    def counted(window: Window, measures: Sequence[Measure] | None = None) -> WindowColumns:
        asked.append((len(window), len(measures or ())))
        return read(window, measures)

    monkeypatch.setattr(store, "read_window", counted)
    market, window = Market("KRAKEN", tuple(pairs)), Window(Slot(NOW - 719), Slot(NOW + 1))
    at_once = read_ledgers(store, market, window)
    whole = asked.copy()
    asked.clear()
    monkeypatch.setattr(exchange_run, "_VALUES_AT_ONCE", 720 * 4 * 2)
    in_parts = read_ledgers(store, market, window)

    assert [(2160, 2), (720, 3)] == whole
    assert [(2160, 1), (2160, 1), (720, 2), (720, 1)] == asked
    for pair, measure in itertools.product(pairs, Measure):
        seen = [
            [ledgers[pair].value(measure, slot) for slot in range(NOW - 2159, NOW + 1)]
            for ledgers in (at_once, in_parts)
        ]
        np.testing.assert_array_equal(*seen)
    assert at_once["T0USD"].value(Measure.PRICE, NOW - 714) == 715.0


async def test_change_is_against_the_price_a_day_before(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """Absolute in the quote currency, relative in percent points of the old price."""
    store.write(Points.of([(Series("KRAKEN:BTCUSD", Measure.PRICE), NOW - 1440, 80.0, Quality.OBSERVED)]))

    await collector_of(store, clock, exchange).collect(NOW)

    points = stored(store)
    assert (20.0, Quality.OBSERVED) == points["KRAKEN:BTCUSD", "change_absolute", 0]
    assert (25.0, Quality.OBSERVED) == points["KRAKEN:BTCUSD", "change_percentage", 0]
    assert ("KRAKEN:BTCUSD", "change_absolute", -1) not in points


async def test_change_uses_longer_candles_where_the_store_knows_no_price(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """Only of the slots that a longer candle ends with; of the others the change is left out."""
    known = Slot(NOW - 1440 - (NOW + 1) % 5)
    exchange.coarse[BTC] = {known: 50.0}

    await collector_of(store, clock, exchange).collect(NOW)

    changes = {
        place: value for (_, measure, place), (value, _) in stored(store).items() if measure == "change_absolute"
    }
    place = known + 1440 - NOW
    assert {place: exchange.minutes[BTC][NOW + place][0] - 50.0} == changes


async def test_an_exchange_whose_clock_stands_still_is_not_believed(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """Candles that end before the slot show the ticker to be old as well: nothing of the slot is stored, and said."""
    exchange.newest = Slot(NOW - 4)

    report = await collector_of(store, clock, exchange).collect(NOW)

    assert max(place for _, _, place in stored(store)) == -4
    assert "its newest complete candle is of" in report.exchanges[0].failures[BTC]
    assert Outcome.FAILED is report.exchanges[0].outcome


async def test_a_ticker_that_crosses_into_the_next_minute_is_not_taken(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """A run that began on time but was answered too late has candles only."""
    asked = exchange.sample

    async def sample(pairs: Sequence[str]) -> Sample:
        answer = await asked(pairs)
        clock.advance(60)
        return answer

    exchange.sample = sample  # type: ignore[method-assign]  # the minute turns before the answer is there

    await collector_of(store, clock, exchange).collect(NOW)

    assert {"price", "volume_1m"} == {measure for _, measure, place in stored(store) if place == 0}


async def test_an_exchange_that_is_a_moment_late_is_asked_again(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """A candle that is closed a few seconds after the minute is waited for."""
    exchange.newest = Slot(NOW - 1)
    asked = exchange.candles

    async def candles(pair: str, window: Window) -> object:
        answer = await asked(pair, window)
        exchange.newest = NOW
        return answer

    exchange.candles = candles  # type: ignore[method-assign]  # the exchange's mood changes between two answers

    report = await collector_of(store, clock, exchange).collect(NOW)

    assert (100.0, Quality.OBSERVED) == stored(store)["KRAKEN:BTCUSD", "price", 0]
    assert report.exit_code == 0


async def test_one_pair_and_one_exchange_leave_the_others_alone(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """A refused pair, and an exchange module with a bug, cost themselves only."""
    exchange.minutes[ETH] = {}
    exchange.ticker_failures[ETH] = ExchangeRefusedError("KRAKEN", "EQuery:Unknown asset pair", ETH)
    exchange.candle_failures[ETH] = ExchangeRefusedError("KRAKEN", "EQuery:Unknown asset pair", ETH)
    broken = ScriptedExchange("SIM", NOW)
    broken.minutes = {BTC: {}}
    broken.candle_failures[BTC] = KeyError("a bug")

    report = await collector_of(store, clock, exchange, broken).collect(NOW)

    kraken, sim = report.exchanges
    assert (Outcome.PARTIAL, {ETH: "EQuery:Unknown asset pair"}) == (kraken.outcome, dict(kraken.failures))
    assert Outcome.FAILED is sim.outcome
    assert "a bug" in sim.error
    assert ("KRAKEN:BTCUSD", "price", 0) in stored(store)
    assert [("KRAKEN", Outcome.PARTIAL), ("SIM", Outcome.FAILED)] == [
        (r.exchange, r.outcome) for r in store.latest_runs()
    ]


async def test_an_answer_that_never_comes_ends_with_the_deadline(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """The run writes what it has when its time is up, and says of which pair there was no answer."""
    exchange.gate = asyncio.Event()
    collector = collector_of(store, clock, exchange)
    collector._deadline_seconds = 0.05

    report = await collector.collect(NOW)

    assert "not answered within the run's time" == report.exchanges[0].failures[BTC]
    assert ("KRAKEN:BTCUSD", "price", 0) in stored(store)


async def test_slots_without_a_record_of_their_run_are_written_again(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """A run that was killed after it wrote, before it was recorded, may not have told followers: the next one does."""
    price = Series("KRAKEN:BTCUSD", Measure.PRICE)
    store.write(Points.of([(price, NOW - i, 7.0, Quality.OBSERVED) for i in range(1, 10)]))
    store.record_run(Run("KRAKEN", Slot(NOW - 3), 0.0, 1, Outcome.OK))
    mark = store.mark()

    await collector_of(store, clock, exchange).collect(NOW)

    again = {slot - NOW: value for series, slot, value, _ in store.read_since(mark).points.rows() if series == price}
    assert {-2: 7.0, -1: 7.0, 0: 100.0} == again


async def test_the_measures_of_a_market_are_the_only_ones_written(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """A market that asks for the price alone gets no other series."""
    catalog = FixedCatalog(Market("KRAKEN", (BTC,), (Measure.PRICE,)))

    await collector_of(store, clock, exchange, catalog=catalog).collect(NOW)

    assert {Series("KRAKEN:BTCUSD", Measure.PRICE)} == set(store.list_series())


async def test_a_slot_that_has_not_ended_is_refused(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """Nobody can know it yet."""
    with pytest.raises(InvalidInputError, match="has not ended yet"):
        await collector_of(store, clock, exchange).collect(Slot(NOW + 1))


async def test_an_unknown_exchange_in_the_catalog_is_a_wrong_setting(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange
) -> None:
    """It is named with the nearest one that is known."""
    catalog = FixedCatalog(Market("KRAKN", (BTC,)))
    with pytest.raises(InvalidSettingError, match=r"'KRAKN' is not an exchange \(did you mean KRAKEN"):
        await collector_of(store, clock, exchange, catalog=catalog).collect(NOW)


async def test_a_store_out_of_reach_is_raised(clock: ManualClock, exchange: ScriptedExchange) -> None:
    """A run that cannot write says so instead of reporting."""
    store = open_store("memory:", clock=clock)
    store.close()
    with pytest.raises(StoreUnavailableError):
        await collector_of(store, clock, exchange).collect(NOW)


def test_shards_divide_the_metrics() -> None:
    """Every metric falls in exactly one part, the same one in every process, and no part is empty."""
    metrics = [f"KRAKEN:T{i:04}USD" for i in range(200)]
    parts = [[metric for metric in metrics if in_shard(metric, (i, 4))] for i in range(4)]

    assert sorted(itertools.chain(*parts)) == metrics
    assert all(len(part) > 20 for part in parts)
    assert in_shard("KRAKEN:BTCUSD", (0, 4)), "the hash is stable across versions, else runs would overlap"


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0)])
def test_an_impossible_shard_is_refused(
    store: MetricStore, clock: ManualClock, exchange: ScriptedExchange, shard: tuple[int, int]
) -> None:
    """I/N needs 0 <= I < N."""
    with pytest.raises(InvalidInputError, match="is no part of a whole"):
        Collector(reader=store, writer=store, catalog=FixedCatalog(), exchange_options={}, clock=clock, shard=shard)
