"""Wrong values for every field of every request, and the exact error each of them gets."""

from __future__ import annotations

from typing import Any

import pytest
from tickwatch.v1 import alert_pb2 as wire
from tickwatch.v1 import query_pb2 as query_wire

from services.core.catalog.base import Market
from tests.support.alerter import LogWriter, serve
from tests.support.query import LAST, failure, make_store

SEVERITIES = "one of SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL"
GLOB_HINT = "KRAKEN:BTCUSD, or KRAKEN:* for a whole exchange"
RULE_HINT = "letters, digits, - and _, at most 64, a letter or a digit first"


def at(slot: int, seconds: int = 0, nanos: int = 0) -> dict[str, int]:
    """Return a timestamp."""
    return {"seconds": slot * 60 + seconds, "nanos": nanos}


Watch, List = wire.WatchBreachesRequest, wire.ListBreachesRequest
Replay, Explain, Silence = wire.TestRuleRequest, wire.ExplainSeriesRequest, wire.CreateSilenceRequest
MISSING = wire.Rule(name="a", missing=wire.MissingCondition())
PRICE = query_wire.MEASURE_PRICE
ID_HINT = "16 hexadecimal digits, as they are listed"
KNOWN = {"rule": "missing", "metric": "SIM:AAA", "measure": PRICE}

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
    # TestRule
    (Replay(), "INVALID_FIELD", "rule", "rule: is required (a rule, or rule_name for one that is in force)"),
    (
        Replay(rule=wire.Rule(name="a")),
        "INVALID_FIELD",
        "rule.condition",
        "rule.condition: is required (one of ratio, threshold, missing, frozen)",
    ),
    (
        Replay(rule=wire.Rule(name="a b", missing=wire.MissingCondition())),
        "INVALID_FIELD",
        "rule.name",
        f"rule.name: 'a b' is not a rule's name ({RULE_HINT})",
    ),
    (
        Replay(rule=wire.Rule(name="a", missing=wire.MissingCondition(), selector=wire.Selector(metrics=["sim:*"]))),
        "INVALID_FIELD",
        "rule.selector.metrics[0]",
        "rule.selector.metrics[0]: 'sim:*' does not fit (a metric or a glob of one, such as KRAKEN:*USD)",
    ),
    (
        Replay(rule=MISSING, max_events=-1),
        "INVALID_FIELD",
        "max_events",
        "max_events: -1 is below 0 (0 for the default of 1000, or up to 10000)",
    ),
    (
        Replay(rule=MISSING, start_time=at(LAST, 1)),
        "INVALID_FIELD",
        "start_time",
        "start_time: 2026-11-24T05:59:01Z is not a whole minute (2026-11-24T05:59:00Z, for one)",
    ),
    (
        Replay(rule=MISSING, end_time=at(LAST + 2)),
        "INVALID_FIELD",
        "end_time",
        ("end_time: 2026-11-24 06:01 UTC is to come (at most 2026-11-24 06:00 UTC, the end of the last whole minute)"),
    ),
    (
        Replay(rule=MISSING, start_time=at(LAST), end_time=at(LAST)),
        "INVALID_FIELD",
        "start_time",
        "start_time: 2026-11-24 05:59 UTC is not before the end, 2026-11-24 05:59 UTC (before it)",
    ),
    (
        Replay(rule=MISSING, start_time=at(LAST - 31 * 1440)),
        "INVALID_FIELD",
        "start_time",
        "start_time: the range is 31 days long (at most 31 days)",
    ),
    (
        Replay(rule=MISSING, end_time=at(LAST - 30 * 1440)),
        "INVALID_FIELD",
        "end_time",
        "end_time: 2026-10-25 05:59 UTC is longer ago than the 30 days that are kept (a later time)",
    ),
    # ExplainSeries
    (
        Explain(**{**KNOWN, "rule": ""}),
        "INVALID_FIELD",
        "rule",
        "rule: is required (the name of a rule in force)",
    ),
    (
        Explain(**{**KNOWN, "metric": ""}),
        "INVALID_FIELD",
        "metric",
        "metric: '' is not a metric name (EXCHANGE:PAIR in capitals, as in KRAKEN:BTCUSD)",
    ),
    (
        Explain(**{**KNOWN, "measure": 0}),
        "INVALID_FIELD",
        "measure",
        (
            "measure: is required (one of MEASURE_PRICE, MEASURE_VOLUME, MEASURE_CHANGE_ABSOLUTE, "
            "MEASURE_CHANGE_PERCENTAGE, MEASURE_VOLUME_1M)"
        ),
    ),
    (
        Explain(**KNOWN, time=at(LAST, 1)),
        "INVALID_FIELD",
        "time",
        "time: 2026-11-24T05:59:01Z is not a whole minute (2026-11-24T05:59:00Z, for one)",
    ),
    (
        Explain(**KNOWN, time=at(LAST + 1)),
        "INVALID_FIELD",
        "time",
        "time: 2026-11-24 06:00 UTC has not been evaluated yet (at most 2026-11-24 05:59 UTC)",
    ),
    (
        Explain(**KNOWN, time=at(LAST - 30 * 1440)),
        "INVALID_FIELD",
        "time",
        "time: 2026-10-25 05:59 UTC is longer ago than the 30 days that are kept (a later time)",
    ),
    # Silences
    (Silence(), "INVALID_FIELD", "duration", "duration: is required (from 1 minute to 30 days)"),
    (
        Silence(duration={"seconds": 59}),
        "INVALID_FIELD",
        "duration",
        "duration: 59 s is out of range (1 minute to 30 days)",
    ),
    (
        Silence(duration={"seconds": 60}, rules=["a", "a b"]),
        "INVALID_FIELD",
        "rules[1]",
        "rules[1]: 'a b' does not fit (a rule's name or a glob of one, such as missing or three-*)",
    ),
    (
        Silence(duration={"seconds": 60}, selector={"exchanges": ["kraken"]}),
        "INVALID_FIELD",
        "selector.exchanges[0]",
        "selector.exchanges[0]: 'kraken' does not fit (an exchange or a glob of one, such as KRAKEN)",
    ),
    (
        Silence(duration={"seconds": 60}, comment="x" * 1001),
        "INVALID_FIELD",
        "comment",
        "comment: 1001 characters (at most 1000)",
    ),
    (wire.ExpireSilenceRequest(), "INVALID_FIELD", "id", f"id: is required ({ID_HINT})"),
    (wire.ExpireSilenceRequest(id="x"), "INVALID_FIELD", "id", f"id: 'x' is no id ({ID_HINT})"),
    # Dead letters
    (
        wire.ListDeadLettersRequest(page_size=-1),
        "INVALID_FIELD",
        "page_size",
        "page_size: -1 is below 0 (0 for the default of 100, or up to 1000)",
    ),
    (
        wire.ListDeadLettersRequest(page_token="x"),
        "INVALID_PAGE_TOKEN",
        "page_token",
        "page_token: was not issued by this service (start again with an empty page_token)",
    ),
    (
        wire.ResendDeadLettersRequest(ids=["0" * 16, ""]),
        "INVALID_FIELD",
        "ids[1]",
        f"ids[1]: is required ({ID_HINT})",
    ),
    (
        wire.ResendDeadLettersRequest(ids=["0" * 16] * 1001),
        "INVALID_FIELD",
        "ids",
        "ids: 1001 ids (at most 1000, or none for all)",
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
    async with serve(store, markets=[Market("SIM", ("AAA",))]) as service:
        wrong = await failure(call(service, request_))

    assert wrong == ("INVALID_ARGUMENT", reason, field, text, None)


NOT_THERE: list[tuple[Any, str, str]] = [
    (Replay(rule_name="mising"), "RULE_NOT_FOUND", "no rule 'mising' is in force; did you mean missing?"),
    (
        Explain(**{**KNOWN, "rule": "nothing-like-it"}),
        "RULE_NOT_FOUND",
        "no rule 'nothing-like-it' is in force",
    ),
    (
        Explain(**{**KNOWN, "metric": "SIM:AAB"}),
        "METRIC_NOT_FOUND",
        "metric 'SIM:AAB' has no points in the store; did you mean SIM:AAA?",
    ),
    (wire.ExpireSilenceRequest(id="0" * 16), "SILENCE_NOT_FOUND", "no silence '0000000000000000' holds"),
    (
        wire.ResendDeadLettersRequest(ids=["0" * 16]),
        "DEAD_LETTER_NOT_FOUND",
        "there is no dead letter '0000000000000000'",
    ),
]


@pytest.mark.parametrize(("request_", "reason", "text"), NOT_THERE)
async def test_what_is_not_there_is_named(store, request_, reason, text):
    """A rule, metric, silence or dead letter of a name that is not known is NOT_FOUND, with the nearest name."""
    async with serve(store, markets=[Market("SIM", ("AAA",))]) as service:
        wrong = await failure(call(service, request_))

    assert wrong == ("NOT_FOUND", reason, "", text, None)


METHODS = [method.name for method in wire.DESCRIPTOR.services_by_name["AlertService"].methods]


@pytest.mark.parametrize("method", METHODS)
async def test_no_method_answers_before_evaluation_has_caught_up(method):
    """It is UNAVAILABLE, NOT_READY, and worth another try."""
    store = make_store()
    requests = {"TestRule": Replay(rule=MISSING), "ExplainSeries": Explain(**KNOWN), "CreateSilence": Silence()}
    kind = getattr(wire, f"{method}Request")
    async with serve(store, wait=False) as service:
        wrong = await failure(call(service, requests.get(method, kind())))

    assert wrong[:2] == ("UNAVAILABLE", "NOT_READY")
    assert wrong.retry_seconds == 1


@pytest.mark.parametrize("method", METHODS)
async def test_what_is_no_request_is_refused(store, method):
    """Bytes that are not the method's request are INVALID_FIELD of `request`, not a broken connection."""
    async with serve(store) as service:
        path = f"/tickwatch.v1.AlertService/{method}"
        if method == "WatchBreaches":
            wrong = await failure(service.channel.unary_stream(path)(b"\xff\xff").read())
        else:
            wrong = await failure(service.channel.unary_unary(path)(b"\xff\xff"))

    assert wrong[:3] == ("INVALID_ARGUMENT", "INVALID_FIELD", "request")
