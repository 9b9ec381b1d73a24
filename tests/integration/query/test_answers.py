"""The three unary methods, over the wire, on a real server, against numpy's own answers."""

from __future__ import annotations

import numpy as np
import pytest
from tickwatch.v1 import query_pb2 as wire

from services.core.model import DAY_SLOTS, Measure, Points, Quality, Series, Slot, Window
from tests.support.query import LAST, eventually, make_market, make_store, names, record_run, serve


async def test_history_of_a_day_is_exactly_1440_values() -> None:
    """Without times a history ends with the newest run's slot and equals the store's points, else NaN."""
    market = make_market(["SIM:AAA", "SIM:BBB"], holes=0.2)
    async with serve(make_store(market)) as service:
        answer = await service.stub.GetHistory(wire.GetHistoryRequest(metric="SIM:BBB", measure=wire.MEASURE_VOLUME))

    expected = market.expected(Series("SIM:BBB", Measure.VOLUME), Window.ending(LAST + 1))
    assert len(answer.values) == DAY_SLOTS
    np.testing.assert_array_equal(answer.values, expected)
    assert answer.start_time.seconds == (LAST + 1 - DAY_SLOTS) * 60
    assert answer.interval.seconds == 60
    assert answer.coverage == pytest.approx(np.mean(~np.isnan(expected)))


async def test_missing_and_backfilled_are_maximal_ranges() -> None:
    """The ranges of missing and of backfilled slots are maximal, ascending and exactly those slots."""
    series = Series("SIM:AAA", Measure.PRICE)
    store = make_store()
    present = {5: Quality.OBSERVED, 6: Quality.BACKFILLED, 7: Quality.BACKFILLED, 100: Quality.BACKFILLED}
    start = LAST + 1 - DAY_SLOTS
    store.write(Points.of((series, start + place, 1.0, quality) for place, quality in present.items()))
    async with serve(store) as service:
        answer = await service.stub.GetHistory(wire.GetHistoryRequest(metric="SIM:AAA", measure=1))

    def places(ranges: list[wire.TimeRange]) -> list[tuple[int, int]]:
        return [(r.start_time.seconds // 60 - start, r.end_time.seconds // 60 - start) for r in ranges]

    assert places(answer.missing) == [(0, 5), (8, 100), (101, 1440)]
    assert places(answer.backfilled) == [(6, 8), (100, 101)]
    assert answer.coverage == 4 / 1440


async def test_range_partly_older_than_the_window_is_joined() -> None:
    """A range that begins before the hot window is the store's part and memory's part, as if there were no border."""
    market = make_market(["SIM:AAA"], slots=3 * DAY_SLOTS, holes=0.1, measures=[Measure.PRICE])
    window = Window(Slot(LAST - 2 * DAY_SLOTS), Slot(LAST - 10))
    async with serve(make_store(market)) as service:
        request = wire.GetHistoryRequest(metric="SIM:AAA", measure=1)
        request.start_time.seconds, request.end_time.seconds = window.start * 60, window.end * 60
        joined = await service.stub.GetHistory(request)
        request.end_time.seconds = (LAST - DAY_SLOTS - 200) * 60
        old = await service.stub.GetHistory(request)

    expected = market.expected(Series("SIM:AAA", Measure.PRICE), window)
    np.testing.assert_array_equal(joined.values, expected)
    np.testing.assert_array_equal(old.values, expected[: len(old.values)])
    assert len(old.values) == DAY_SLOTS - 200


@pytest.mark.parametrize(
    ("aggregation", "reduce"),
    [
        (wire.AGGREGATION_UNSPECIFIED, lambda a: a[-1]),
        (wire.AGGREGATION_LAST, lambda a: a[-1]),
        (wire.AGGREGATION_MEAN, np.mean),
        (wire.AGGREGATION_MIN, np.min),
        (wire.AGGREGATION_MAX, np.max),
    ],
)
async def test_intervals_aggregate_their_points(aggregation: int, reduce: object) -> None:
    """Each interval's value is of its own points alone, missing ones left out; the last interval may be shorter."""
    market = make_market(["SIM:AAA"], slots=200, holes=0.5, measures=[Measure.PRICE])
    window = Window(Slot(LAST - 300), Slot(LAST - 3))
    async with serve(make_store(market)) as service:
        request = wire.GetHistoryRequest(metric="SIM:AAA", measure=1, aggregation=aggregation)
        request.start_time.seconds, request.end_time.seconds = window.start * 60, window.end * 60
        request.interval.seconds = 7 * 60
        answer = await service.stub.GetHistory(request)

    values = market.expected(Series("SIM:AAA", Measure.PRICE), window)
    buckets = [values[at : at + 7] for at in range(0, len(values), 7)]
    present = [bucket[~np.isnan(bucket)] for bucket in buckets]
    expected = [reduce(bucket) if len(bucket) else np.nan for bucket in present]
    np.testing.assert_allclose(answer.values, expected, rtol=1e-15)
    assert len(answer.values) == 43


async def test_known_metric_without_points_is_nan() -> None:
    """A metric that only the store remembers, or without points of the measure, is answered with NaN, not refused."""
    old = make_market(["SIM:OLD"], end=Slot(LAST - 3 * DAY_SLOTS), slots=10, measures=[Measure.PRICE])
    async with serve(make_store(old)) as service:
        for measure in (wire.MEASURE_PRICE, wire.MEASURE_VOLUME_1M):
            answer = await service.stub.GetHistory(wire.GetHistoryRequest(metric="SIM:OLD", measure=measure))

            assert len(answer.values) == DAY_SLOTS
            assert np.isnan(answer.values).all()
            assert answer.coverage == 0


async def test_far_past_and_future_are_nan() -> None:
    """Before the retention and after the newest slot there are no points, and asking for them costs nothing."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as service:
        request = wire.GetHistoryRequest(metric="SIM:AAA", measure=1)
        request.start_time.seconds, request.end_time.seconds, request.interval.seconds = 0, 4_102_444_800, 86400
        whole = await service.stub.GetHistory(request)
        request.start_time.seconds, request.end_time.seconds = (LAST + 100) * 60, (LAST + 200) * 60
        request.interval.seconds = 60
        future = await service.stub.GetHistory(request)

    assert len(whole.values) == 47482
    assert np.count_nonzero(~np.isnan(whole.values)) == 2
    assert len(future.values) == 100
    assert np.isnan(future.values).all()
    assert [(r.start_time.seconds, r.end_time.seconds) for r in future.missing] == [
        ((LAST + 100) * 60, (LAST + 200) * 60)
    ]


async def test_window_ends_with_the_newest_run_or_the_last_complete_slot() -> None:
    """The newest slot of any run ends the window; once over three minutes old, the last complete slot does."""
    store = make_store(make_market(["SIM:AAA"], end=Slot(LAST - 2)))
    request = wire.GetHistoryRequest(metric="SIM:AAA", measure=1)
    async with serve(store) as service:
        ends = []
        for now in ((LAST - 2) * 60 + 180, (LAST - 2) * 60 + 181, (LAST + 9) * 60):
            service.clock.set(now)
            answer = await service.stub.GetHistory(request)
            ends.append(answer.start_time.seconds // 60 + DAY_SLOTS - LAST)

    assert ends == [-2, 1, 9]


async def test_list_names_every_metric_with_its_measures() -> None:
    """Each metric of the last day is listed once, by name, with newest point, count and coverage of each measure."""
    market = make_market(["KRAKEN:BTCUSD", "SIM:AAA"], holes=0.3)
    stale = make_market(["SIM:GONE"], end=Slot(LAST - DAY_SLOTS - 5), slots=20)
    store = make_store(stale)
    store.write(market.points())
    record_run(store, LAST)
    async with serve(store) as service:
        everything = await service.stub.ListMetrics(wire.ListMetricsRequest())
        kraken = await service.stub.ListMetrics(wire.ListMetricsRequest(exchange="KRAKEN"))
        nothing = await service.stub.ListMetrics(wire.ListMetricsRequest(exchange="NOBODY"))

    assert [m.name for m in everything.metrics] == ["KRAKEN:BTCUSD", "SIM:AAA"]
    assert [m.name for m in kraken.metrics] == ["KRAKEN:BTCUSD"]
    assert not nothing.metrics
    assert (everything.metrics[0].exchange, everything.metrics[0].pair) == ("KRAKEN", "BTCUSD")
    for metric in everything.metrics:
        assert [s.measure for s in metric.measures] == [wire.MEASURE_PRICE, wire.MEASURE_VOLUME]
        for summary, measure in zip(metric.measures, (Measure.PRICE, Measure.VOLUME), strict=True):
            values = market.values[Series(metric.name, measure)]
            newest = np.flatnonzero(~np.isnan(values))[-1]
            assert summary.last_time.seconds == (market.start + newest) * 60
            assert summary.last_value == values[newest]
            assert summary.point_count == np.count_nonzero(~np.isnan(values))
            assert summary.coverage == summary.point_count / 1440


async def test_ranking_equals_a_full_recomputation() -> None:
    """Rankings are by descending sample deviation over the window, with counts, coverage and the unranked named."""
    market = make_market(names(20), holes=0.3, measures=[Measure.PRICE])
    store = make_store(market)
    store.write(Points.of([(Series("SIM:ONE", Measure.PRICE), LAST, 1.0, Quality.OBSERVED)]))
    async with serve(store) as service:
        request = wire.RankMetricsRequest(measure=wire.MEASURE_PRICE)
        request.window.seconds = 600 * 60
        answer = await service.stub.RankMetrics(request)

    window = Window.ending(LAST + 1, 600)
    deviations = {}
    for series in market.values:
        values = market.expected(series, window)
        deviations[series.metric] = np.nanstd(values, ddof=1), np.count_nonzero(~np.isnan(values))
    best = sorted(deviations, key=lambda name: (-deviations[name][0], name))
    assert [r.metric for r in answer.rankings] == best
    assert [r.rank for r in answer.rankings] == list(range(1, 21))
    np.testing.assert_allclose([r.value for r in answer.rankings], [deviations[n][0] for n in best], rtol=1e-12)
    assert [r.point_count for r in answer.rankings] == [deviations[n][1] for n in best]
    assert [r.coverage for r in answer.rankings] == [deviations[n][1] / 600 for n in best]
    assert answer.ranked_count == 20
    assert list(answer.unranked) == ["SIM:ONE"]
    assert answer.window.end_time.seconds == (LAST + 1) * 60


async def test_new_points_change_the_same_question_s_answer() -> None:
    """An answer kept as bytes is good until points are written, a late one too, and not one poll longer."""
    market = make_market(["SIM:AAA"], measures=[Measure.PRICE])
    store = make_store(market)
    request = wire.GetHistoryRequest(metric="SIM:AAA", measure=1)
    async with serve(store) as service:
        before = await service.stub.GetHistory(request)
        late = Points.of([(Series("SIM:AAA", Measure.PRICE), LAST - 700, 12345.0, Quality.BACKFILLED)])
        store.write(late)
        after = await eventually(lambda: service.stub.GetHistory(request), lambda a: a.values != before.values)

    assert after.values[1439 - 700] == 12345.0
    assert [r.start_time.seconds for r in after.backfilled] == [(LAST - 700) * 60]
