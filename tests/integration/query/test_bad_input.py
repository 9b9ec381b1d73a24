"""Wrong values for every field of every request, and the exact error each of them gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tickwatch.v1 import query_pb2 as wire

from services.core.errors import StoreRefusedError, StoreUnavailableError
from services.core.model import DAY_SLOTS, Measure
from tests.support.query import LAST, Wrong, failure, make_market, make_store, names, outcome, serve

MEASURES = "one of MEASURE_PRICE, MEASURE_VOLUME, MEASURE_CHANGE_ABSOLUTE, MEASURE_CHANGE_PERCENTAGE, MEASURE_VOLUME_1M"
METRIC_HINT = "EXCHANGE:PAIR in capitals, as in KRAKEN:BTCUSD"


def history(**fields: Any) -> wire.GetHistoryRequest:
    """Return a request that is right but for these fields."""
    return wire.GetHistoryRequest(**{"metric": "SIM:P00000", "measure": wire.MEASURE_PRICE, **fields})


def at(slot: int, seconds: int = 0, nanos: int = 0) -> dict[str, int]:
    """Return a timestamp."""
    return {"seconds": slot * 60 + seconds, "nanos": nanos}


def rank(**fields: Any) -> wire.RankMetricsRequest:
    """Return a request that is right but for these fields."""
    return wire.RankMetricsRequest(**{"measure": wire.MEASURE_PRICE, **fields})


Lists, Watch = wire.ListMetricsRequest, wire.WatchPointsRequest

WRONG: list[tuple[Any, str, str, str]] = [
    # GetHistory
    (history(metric=""), "INVALID_FIELD", "metric", f"metric: is required ({METRIC_HINT})"),
    (history(metric="BTCUSD"), "INVALID_FIELD", "metric", f"metric: 'BTCUSD' is not a metric name ({METRIC_HINT})"),
    (
        history(metric="sim:p00000"),
        "INVALID_FIELD",
        "metric",
        f"metric: 'sim:p00000' is not a metric name ({METRIC_HINT})",
    ),
    (
        history(metric='A:B" |> drop()'),
        "INVALID_FIELD",
        "metric",
        f"metric: 'A:B\" |> drop()' is not a metric name ({METRIC_HINT})",
    ),
    (history(measure=0), "INVALID_FIELD", "measure", f"measure: is required ({MEASURES})"),
    (history(measure=99), "INVALID_FIELD", "measure", f"measure: 99 is not a measure ({MEASURES})"),
    (history(measure=-1), "INVALID_FIELD", "measure", f"measure: -1 is not a measure ({MEASURES})"),
    (
        history(start_time=at(LAST - 5, seconds=1)),
        "INVALID_FIELD",
        "start_time",
        "start_time: 2026-11-24T05:54:01Z is not a whole minute (2026-11-24T05:54:00Z, for one)",
    ),
    (
        history(end_time=at(LAST, nanos=5)),
        "INVALID_FIELD",
        "end_time",
        "end_time: 2026-11-24T05:59:00.000000005Z is not a whole minute (2026-11-24T05:59:00Z, for one)",
    ),
    (
        history(end_time=at(LAST, nanos=-1)),
        "INVALID_FIELD",
        "end_time",
        "end_time: has -1 nanos (nanos from 0 to 999999999)",
    ),
    (
        history(start_time={"seconds": -60}),
        "INVALID_FIELD",
        "start_time",
        "start_time: -60 s since 1970 is outside 1970 to 2100 (a time in seconds since 1970, in UTC)",
    ),
    (
        history(end_time={"seconds": LAST * 60_000}),
        "INVALID_FIELD",
        "end_time",
        f"end_time: {LAST * 60_000} s since 1970 is outside 1970 to 2100 (a time in seconds since 1970, in UTC)",
    ),
    (
        history(start_time=at(LAST), end_time=at(LAST - 1)),
        "INVALID_FIELD",
        "end_time",
        (
            "end_time: the range would end at 2026-11-24 05:58 UTC, before it starts at 2026-11-24 05:59 UTC "
            "(start_time at or before end_time)"
        ),
    ),
    (
        history(start_time=at(LAST + 9)),
        "INVALID_FIELD",
        "start_time",
        (
            "start_time: the range would end at 2026-11-24 06:00 UTC, before it starts at 2026-11-24 06:08 UTC "
            "(start_time at or before end_time)"
        ),
    ),
    (
        history(interval={"seconds": 90}),
        "INVALID_FIELD",
        "interval",
        "interval: 90 s is not a whole number of minutes (whole minutes from 60s to 86400s)",
    ),
    (
        history(interval={"seconds": 60, "nanos": 1}),
        "INVALID_FIELD",
        "interval",
        "interval: 60 s is not a whole number of minutes (whole minutes from 60s to 86400s)",
    ),
    (
        history(interval={"seconds": 0}),
        "INVALID_FIELD",
        "interval",
        "interval: 0 s is outside 1 to 1440 minutes (whole minutes from 60s to 86400s)",
    ),
    (
        history(interval={"seconds": -60}),
        "INVALID_FIELD",
        "interval",
        "interval: -60 s is outside 1 to 1440 minutes (whole minutes from 60s to 86400s)",
    ),
    (
        history(interval={"seconds": 86460}),
        "INVALID_FIELD",
        "interval",
        "interval: 86460 s is outside 1 to 1440 minutes (whole minutes from 60s to 86400s)",
    ),
    (
        history(start_time=at(LAST - 100_000), end_time=at(LAST)),
        "INVALID_FIELD",
        "interval",
        (
            "interval: the range is 100000 intervals long, more than 50000 "
            "(an interval of at least 2 minutes, or a shorter range)"
        ),
    ),
    (
        history(aggregation=7),
        "INVALID_FIELD",
        "aggregation",
        (
            "aggregation: 7 is not one of this version's "
            "(one of AGGREGATION_LAST, AGGREGATION_MEAN, AGGREGATION_MIN, AGGREGATION_MAX)"
        ),
    ),
    # ListMetrics
    (
        Lists(page_size=-1),
        "INVALID_FIELD",
        "page_size",
        "page_size: -1 is below 0 (0 for the default of 100, or up to 10000)",
    ),
    (
        Lists(page_token="forged"),
        "INVALID_PAGE_TOKEN",
        "page_token",
        "page_token: was not issued by this service (start again with an empty page_token)",
    ),
    (
        Lists(exchange=""),
        "INVALID_FIELD",
        "exchange",
        "exchange: '' is not an exchange (upper case, as in KRAKEN)",
    ),
    (
        Lists(exchange="kraken"),
        "INVALID_FIELD",
        "exchange",
        "exchange: 'kraken' is not an exchange (upper case, as in KRAKEN)",
    ),
    (
        Lists(exchange="A:B"),
        "INVALID_FIELD",
        "exchange",
        "exchange: 'A:B' is not an exchange (upper case, as in KRAKEN)",
    ),
    # RankMetrics
    (rank(measure=0), "INVALID_FIELD", "measure", f"measure: is required ({MEASURES})"),
    (rank(measure=42), "INVALID_FIELD", "measure", f"measure: 42 is not a measure ({MEASURES})"),
    (
        rank(statistic=9),
        "INVALID_FIELD",
        "statistic",
        (
            "statistic: 9 is not one of this version's "
            "(one of STATISTIC_STDDEV, STATISTIC_COEFFICIENT_OF_VARIATION, STATISTIC_LOG_RETURN_STDDEV)"
        ),
    ),
    (
        rank(window={"seconds": 60}),
        "INVALID_FIELD",
        "window",
        "window: 60 s is outside 2 to 1440 minutes (whole minutes from 120s to 86400s)",
    ),
    (
        rank(window={"seconds": 130}),
        "INVALID_FIELD",
        "window",
        "window: 130 s is not a whole number of minutes (whole minutes from 120s to 86400s)",
    ),
    (
        rank(window={"seconds": 10**12}),
        "INVALID_FIELD",
        "window",
        "window: 1e+12 s is not a whole number of minutes (whole minutes from 120s to 86400s)",
    ),
    (
        rank(page_size=-(2**31)),
        "INVALID_FIELD",
        "page_size",
        "page_size: -2147483648 is below 0 (0 for the default of 100, or up to 10000)",
    ),
    (
        rank(page_token="!"),
        "INVALID_PAGE_TOKEN",
        "page_token",
        "page_token: was not issued by this service (start again with an empty page_token)",
    ),
    # WatchPoints
    (
        Watch(metrics=["SIM:A", "x"]),
        "INVALID_FIELD",
        "metrics[1]",
        f"metrics[1]: 'x' is not a metric name ({METRIC_HINT})",
    ),
    (
        Watch(metrics=["SIM:A"] * 1001),
        "INVALID_FIELD",
        "metrics",
        "metrics: 1001 names (at most 1000, or none for all)",
    ),
    (Watch(measures=[1, 0]), "INVALID_FIELD", "measures[1]", f"measures[1]: is required ({MEASURES})"),
    (Watch(measures=[77]), "INVALID_FIELD", "measures[0]", f"measures[0]: 77 is not a measure ({MEASURES})"),
    (
        Watch(cursor="a\nb"),
        "INVALID_CURSOR",
        "cursor",
        "cursor: is not one that a stream has sent (open the stream without a cursor)",
    ),
]


async def test_every_wrong_value_gets_its_error() -> None:
    """Each wrong value is INVALID_ARGUMENT with its reason, its field and a message that says what would be right."""
    got, expected = [], []
    async with serve(make_store(make_market(names(3)))) as service:
        stub = service.stub
        calls: dict[type, Callable[[Any], Any]] = {
            wire.GetHistoryRequest: stub.GetHistory,
            wire.ListMetricsRequest: stub.ListMetrics,
            wire.RankMetricsRequest: stub.RankMetrics,
            wire.WatchPointsRequest: lambda request: stub.WatchPoints(request).read(),
        }
        for request, reason, field, message in WRONG:
            got.append(await failure(calls[type(request)](request)))
            expected.append(Wrong("INVALID_ARGUMENT", reason, field, message))

    assert got == expected


def test_the_table_has_every_field() -> None:
    """No field of any request is without a wrong value in the table."""
    tried = {(type(request), field.partition("[")[0]) for request, _, field, _ in WRONG}
    fields = {
        (kind, field.name)
        for kind in (wire.GetHistoryRequest, wire.ListMetricsRequest, wire.RankMetricsRequest, wire.WatchPointsRequest)
        for field in kind.DESCRIPTOR.fields
    }

    assert fields == tried


@pytest.mark.parametrize("method", ["ListMetrics", "GetHistory", "RankMetrics"])
async def test_bytes_that_are_no_request(method: str) -> None:
    """What cannot be parsed is the caller's error, not the server's."""
    async with serve(make_store()) as service:
        call = service.channel.unary_unary(f"/tickwatch.v1.QueryService/{method}")
        wrong = await failure(call(b"\xff\xff\xff"))

    assert wrong == Wrong(
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "request",
        f"request: is not a tickwatch.v1.{method}Request (see the service's proto)",
    )


async def test_unknown_metric_is_not_found_with_the_nearest() -> None:
    """A metric without any point in the store is METRIC_NOT_FOUND, with the names most like it."""
    async with serve(make_store(make_market(["KRAKEN:BTCUSD", "KRAKEN:ETHUSD"]))) as service:
        near = await failure(service.stub.GetHistory(wire.GetHistoryRequest(metric="KRAKEN:BTCUSDT", measure=1)))
        far = await failure(service.stub.GetHistory(wire.GetHistoryRequest(metric="NASDAQ:QQQQQQ", measure=1)))

    assert near == Wrong(
        "NOT_FOUND",
        "METRIC_NOT_FOUND",
        "",
        "metric 'KRAKEN:BTCUSDT' has no points in the store; did you mean KRAKEN:BTCUSD, KRAKEN:ETHUSD?",
    )
    assert far[:3] == ("NOT_FOUND", "METRIC_NOT_FOUND", "")


async def test_store_away_is_unavailable_only_where_it_is_needed() -> None:
    """Without its store the service answers from memory; only older ranges are UNAVAILABLE, with a time to retry."""
    store = make_store(make_market(["SIM:AAA"], slots=3 * DAY_SLOTS, measures=[Measure.PRICE]))
    old = wire.GetHistoryRequest(metric="SIM:AAA", measure=1, start_time=at(LAST - 2 * DAY_SLOTS))
    async with serve(store) as service:
        store.close()
        fresh = await service.stub.GetHistory(wire.GetHistoryRequest(metric="SIM:AAA", measure=1))
        wrong = await failure(service.stub.GetHistory(old))
        again = await failure(service.stub.GetHistory(old))

    assert len(fresh.values) == DAY_SLOTS
    assert wrong == again
    assert wrong == Wrong(
        "UNAVAILABLE",
        "STORE_UNAVAILABLE",
        "",
        "the store does not answer; what lies beyond the last 24 hours cannot be had now",
        2.0,
    )


class Broken:
    """A reader whose older ranges fail with an error of choice."""

    url = "broken:"

    def __init__(self, store: Any, error: Exception) -> None:
        self._store = store
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_series(self, series: object, window: object) -> None:
        """Fail."""
        raise self._error


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StoreRefusedError("influxdb+http://secret-host", "bad token abc"), "FAILED_PRECONDITION", "STORE_REFUSED"),
        (StoreUnavailableError("influxdb+http://secret-host", "timed out"), "UNAVAILABLE", "STORE_UNAVAILABLE"),
        (ZeroDivisionError("secret-host"), "INTERNAL", "INTERNAL"),
    ],
)
async def test_nothing_of_the_inside_is_told(
    error: Exception, code: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of the store and defects are told without addresses or words of theirs; the log has them."""
    store = Broken(make_store(make_market(["SIM:AAA"])), error)
    async with serve(store) as service:
        wrong = await failure(
            service.stub.GetHistory(
                wire.GetHistoryRequest(metric="SIM:AAA", measure=1, start_time=at(LAST - 2 * DAY_SLOTS))
            )
        )

    assert wrong[:2] == (code, reason)
    assert "secret" not in wrong.message
    assert "secret-host" in caplog.text
    if reason == "INTERNAL":
        assert wrong.message.rpartition(" ")[2] in caplog.text


async def test_loading_is_not_ready() -> None:
    """Before the window is filled, calls are NOT_READY with a time to retry, and nothing is served half."""
    store = make_store()
    store.close()
    async with serve(store, wait=False) as service:
        wrongs = [
            await outcome(service.stub.ListMetrics(wire.ListMetricsRequest())),
            await outcome(service.stub.GetHistory(history())),
            await outcome(service.stub.RankMetrics(rank())),
            await outcome(service.stub.WatchPoints(wire.WatchPointsRequest()).read()),
        ]

    assert set(wrongs) == {Wrong("UNAVAILABLE", "NOT_READY", "", "the last 24 hours are still being loaded", 1.0)}


async def test_no_time_left_is_refused_before_it_is_begun() -> None:
    """A call whose deadline cannot be met by a read of the store is refused without asking the store."""
    store = make_store(make_market(["SIM:AAA"], slots=3 * DAY_SLOTS, measures=[Measure.PRICE]))
    async with serve(store) as service:
        request = wire.GetHistoryRequest(metric="SIM:AAA", measure=1, start_time=at(LAST - 2 * DAY_SLOTS))
        wrong = await failure(service.stub.GetHistory(request, timeout=0.015))

    assert wrong.code == "DEADLINE_EXCEEDED"
