"""Wrong values for every field of every request, and the exact error each of them gets."""

from __future__ import annotations

from typing import Any

import pytest
from tickwatch.v1 import alert_pb2 as wire

from tests.support.alerter import LogWriter, serve
from tests.support.query import LAST, failure, make_store

SEVERITIES = "one of SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL"
GLOB_HINT = "KRAKEN:BTCUSD, or KRAKEN:* for a whole exchange"
RULE_HINT = "letters, digits, - and _, at most 64"


def at(slot: int, seconds: int = 0, nanos: int = 0) -> dict[str, int]:
    """Return a timestamp."""
    return {"seconds": slot * 60 + seconds, "nanos": nanos}


Watch, List = wire.WatchBreachesRequest, wire.ListBreachesRequest

FILTERS: list[tuple[dict[str, Any], str, str]] = [
    ({"rules": ["a b"]}, "rules[0]", f"rules[0]: 'a b' is not a rule's name ({RULE_HINT})"),
    ({"rules": ["a", ""]}, "rules[1]", f"rules[1]: '' is not a rule's name ({RULE_HINT})"),
    ({"rules": ["a"] * 1001}, "rules", "rules: 1001 names (at most 1000, or none for all)"),
    ({"metrics": [""]}, "metrics[0]", f"metrics[0]: '' is neither a metric's name nor a glob ({GLOB_HINT})"),
    (
        {"metrics": ["KRAKEN:*", "btcusd"]},
        "metrics[1]",
        f"metrics[1]: 'btcusd' is neither a metric's name nor a glob ({GLOB_HINT})",
    ),
    (
        {"metrics": ["sim:*"]},
        "metrics[0]",
        f"metrics[0]: 'sim:*' is neither a metric's name nor a glob ({GLOB_HINT})",
    ),
    (
        {"metrics": ["*" * 200]},
        "metrics[0]",
        f"metrics[0]: {'*' * 200!r} is neither a metric's name nor a glob ({GLOB_HINT})",
    ),
    ({"metrics": ["A:B"] * 1001}, "metrics", "metrics: 1001 names (at most 1000, or none for all)"),
    ({"min_severity": 9}, "min_severity", f"min_severity: 9 is not one of this version's ({SEVERITIES})"),
    ({"min_severity": -1}, "min_severity", f"min_severity: -1 is not one of this version's ({SEVERITIES})"),
    (
        {"delivery": 7},
        "delivery",
        "delivery: 7 is not one of this version's (one of DELIVERY_EVERY_BREACH, DELIVERY_EPISODES)",
    ),
]

WRONG: list[tuple[Any, str, str, str]] = [
    *((kind(**fields), "INVALID_FIELD", field, text) for kind in (Watch, List) for fields, field, text in FILTERS),
    (
        Watch(cursor="nonsense"),
        "INVALID_CURSOR",
        "cursor",
        "cursor: is not one that a stream has sent (open the stream without a cursor)",
    ),
    # ListBreaches
    (
        List(page_size=-1),
        "INVALID_FIELD",
        "page_size",
        "page_size: -1 is below 0 (0 for the default of 100, or up to 1000)",
    ),
    (
        List(page_token="x"),
        "INVALID_PAGE_TOKEN",
        "page_token",
        "page_token: was not issued by this service (start again with an empty page_token)",
    ),
    (
        List(start_time=at(LAST, 1)),
        "INVALID_FIELD",
        "start_time",
        "start_time: 2026-11-24T05:59:01Z is not a whole minute (2026-11-24T05:59:00Z, for one)",
    ),
    (
        List(end_time=at(LAST, nanos=-1)),
        "INVALID_FIELD",
        "end_time",
        "end_time: has -1 nanos (nanos from 0 to 999999999)",
    ),
    (
        List(end_time=at(LAST * 1000)),
        "INVALID_FIELD",
        "end_time",
        f"end_time: {LAST * 60_000} s since 1970 is outside 1970 to 2100 (a time in seconds since 1970, in UTC)",
    ),
    (
        List(start_time=at(LAST), end_time=at(LAST - 1)),
        "INVALID_FIELD",
        "end_time",
        (
            "end_time: the range would end at 2026-11-24 05:58 UTC, before it starts at 2026-11-24 05:59 UTC "
            "(start_time at or before end_time)"
        ),
    ),
]


async def call(service, request: Any) -> object:
    """Put a request to the method that its type is of."""
    method = getattr(service.stub, type(request).__name__.removesuffix("Request"))(request)
    return await (method.read() if isinstance(request, Watch) else method)


@pytest.fixture(scope="module")
def store():
    """A store whose log has begun."""
    store = make_store()
    LogWriter(store.breach_log)
    return store


@pytest.mark.parametrize(("request_", "reason", "field", "text"), WRONG)
async def test_what_is_wrong_is_named(store, request_, reason, field, text):
    """Each wrong value is INVALID_ARGUMENT, naming the field, what is wrong with it and what would be right."""
    async with serve(store) as service:
        wrong = await failure(call(service, request_))

    assert wrong == ("INVALID_ARGUMENT", reason, field, text, None)


@pytest.mark.parametrize("method", ["WatchBreaches", "ListBreaches"])
async def test_what_is_no_request_is_refused(store, method):
    """Bytes that are not the method's request are INVALID_FIELD of `request`, not a broken connection."""
    async with serve(store) as service:
        path = f"/tickwatch.v1.AlertService/{method}"
        if method == "WatchBreaches":
            wrong = await failure(service.channel.unary_stream(path)(b"\xff\xff").read())
        else:
            wrong = await failure(service.channel.unary_unary(path)(b"\xff\xff"))

    assert wrong[:3] == ("INVALID_ARGUMENT", "INVALID_FIELD", "request")
