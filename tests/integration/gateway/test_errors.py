"""Every refusal is JSON after AIP-193, with the status and the reason that the one table gives it."""

from __future__ import annotations

import logging
from typing import Any

import grpc
import httpx
import pytest

from services.core.rpc.status import VERDICTS, to_wire_status
from services.gateway.refusals import HTTP_STATUS, refusal_of
from services.gateway.server import open_gateway
from tests.contract.rpc.test_status import EXAMPLES
from tests.support.gateway import reason, serve
from tests.support.ports import free_port
from tests.support.query import make_market, make_store
from tests.support.query import serve as serve_query

HISTORY = "/v1/metrics/SIM:AAA/price/history"


@pytest.mark.parametrize(
    ("method", "address", "status", "expected", "field"),
    [
        ("GET", "/v1/metrics/SIM:ZZZ/price/history", 404, "METRIC_NOT_FOUND", None),
        ("GET", "/v1/metrics/sim/price/history", 400, "INVALID_FIELD", "metric"),
        ("GET", "/v1/metrics/SIM:AAA/prize/history", 400, "INVALID_FIELD", "measure"),
        ("GET", f"{HISTORY}?start_time=yesterday", 400, "INVALID_FIELD", "start_time"),
        ("GET", f"{HISTORY}?start_time=2026-11-24T12:00:30Z", 400, "INVALID_FIELD", "start_time"),
        ("GET", f"{HISTORY}?start_time=0001-01-01T00:00:00%2B23:59", 400, "INVALID_FIELD", "start_time"),
        ("GET", f"{HISTORY}?end_time=2026-11-24T12:00:00", 400, "INVALID_FIELD", "end_time"),
        ("GET", f"{HISTORY}?interval=90", 400, "INVALID_FIELD", "interval"),
        ("GET", f"{HISTORY}?interval=90s", 400, "INVALID_FIELD", "interval"),
        ("GET", f"{HISTORY}?aggregation=median", 400, "INVALID_FIELD", "aggregation"),
        ("GET", "/v1/rankings/price?window=25h", 400, "INVALID_FIELD", "window"),
        ("GET", "/v1/rankings/price?limit=0", 400, "INVALID_FIELD", "limit"),
        *(
            ("GET", f"/v1/rankings/price?limit={written}", 400, "INVALID_FIELD", "limit")
            for written in ("1_0", "%2010", "10%20", "%2B10", "10.0", "1e1", "%EF%BC%91%EF%BC%90", "")
        ),
        ("GET", "/v1/breaches?page_size=1_0", 400, "INVALID_FIELD", "page_size"),
        ("GET", "/v1/breaches?rules=-missing", 400, "INVALID_FIELD", "rules"),
        ("GET", "/v1/breaches/stream?rules=_missing", 400, "INVALID_FIELD", "rules"),
        ("GET", "/v1/metrics?exchange=kraken", 400, "INVALID_FIELD", "exchange"),
        ("GET", "/v1/breaches?page_size=0", 400, "INVALID_FIELD", "page_size"),
        ("GET", "/v1/breaches?min_severity=grave", 400, "INVALID_FIELD", "min_severity"),
        ("GET", "/v1/breaches?metrics=a%20b", 400, "INVALID_FIELD", "metrics"),
        ("GET", "/v1/points/stream?metrics=SIM:*", 400, "INVALID_FIELD", "metrics"),
        ("GET", f"{HISTORY}?since=1h", 400, "INVALID_FIELD", "since"),
        ("GET", "/v1/breaches?limit=3", 400, "INVALID_FIELD", "limit"),
        ("GET", "/v1/rules?page_size=3", 400, "INVALID_FIELD", "page_size"),
        ("GET", "/v1/breaches/stream?severity=warning", 400, "INVALID_FIELD", "severity"),
        ("GET", "/v1/metrics?=1", 400, "INVALID_FIELD", "query"),
        ("GET", "/v1/rankings/price?limit=1&limit=2", 400, "INVALID_FIELD", "limit"),
        ("GET", "/v1/rankings/price?LIMIT=1", 400, "INVALID_FIELD", "LIMIT"),
        ("POST", "/v1/rules:test?limit=1", 400, "INVALID_FIELD", "limit"),
        ("GET", "/v1/points/stream?cursor=forged", 400, "INVALID_CURSOR", "cursor"),
        ("GET", "/v1/breaches/stream?cursor=forged", 400, "INVALID_CURSOR", "cursor"),
        ("GET", "/v1/nowhere", 404, "ADDRESS_NOT_FOUND", None),
        ("GET", "/v1/rules:test", 405, "METHOD_NOT_ALLOWED", None),
        ("DELETE", "/v1/metrics", 405, "METHOD_NOT_ALLOWED", None),
    ],
)
async def test_refusals(method: str, address: str, status: int, expected: str, field: str | None) -> None:
    """What is wrong is named, by the field's own name where it is one."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answer = await gateway.http.request(method, address)
    details = answer.json()["error"]["details"]

    assert (answer.status_code, reason(answer)) == (status, expected)
    assert answer.headers["cache-control"] == "no-store"
    assert [detail["fieldViolations"][0]["field"] for detail in details if "fieldViolations" in detail] == (
        [field] if field else []
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"rule_name": "a", "rule": {"name": "b", "frozen": {}}}, "body"),
        ({"rule": {"name": "no spaces", "frozen": {}}}, "rule.name"),
        ({"rule": {"name": "-b", "frozen": {}}}, "rule.name"),
        ({"rule": {"name": "b", "frozen": {"points": 10.5}}}, "rule.frozen.points"),
        ({"rule": {"name": "b", "frozen": {"points": "1_0"}}}, "rule.frozen.points"),
        ({"rule": {"name": "b", "frozen": {"points": True}}}, "rule.frozen.points"),
        ({"rule": {"name": "b", "ratio": {"factor": "1_0"}}}, "rule.ratio.factor"),
        ({"rule": {"name": "b"}}, "rule"),
        ({"rule": {"name": "b", "frozen": {}, "missing": {}}}, "rule"),
        ({"rule": {"name": "b", "ratio": {"factor": -1}}}, "rule.ratio.factor"),
        ({"rule": {"name": "b", "ratio": {"faktor": 1}}}, "rule.ratio.faktor"),
        ({"rule_name": "a", "end_time": "now"}, "end_time"),
        ([], "body"),
        ("{", "body"),
    ],
)
async def test_bad_bodies(body: Any, field: str) -> None:
    """A body is refused by the path of what is wrong in it."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        given = {"content": body, "headers": {"Content-Type": "application/json"}} if body == "{" else {"json": body}
        answer = await gateway.http.post("/v1/rules:test", **given)
    (violations,) = (
        detail["fieldViolations"] for detail in answer.json()["error"]["details"] if "fieldViolations" in detail
    )

    assert (answer.status_code, reason(answer)) == (400, "INVALID_FIELD")
    assert violations[0]["field"] == field


POINTS = "/v1/points/stream"
ZONED, NAKED = "2026-11-24T12:00:00+01:00", "2026-11-24T12:00:00 01:00"
MEASURES = "'price', 'volume', 'change_absolute', 'change_percentage' or 'volume_1m'"


@pytest.mark.parametrize(
    ("address", "field", "message"),
    [
        (
            "/v1/metrics/a:b/price/history",
            "metric",
            "'a:b' does not fit (EXCHANGE:PAIR in capitals, such as KRAKEN:BTCUSD)",
        ),
        ("/v1/metrics/SIM:BTC%2FUSD/price/history", "path", "has a / in a name (KRAKEN:BTCUSD for BTC/USD, for one)"),
        ("/v1/metrics?exchange=sim", "exchange", "'sim' does not fit (an exchange in capitals, such as KRAKEN)"),
        (
            "/v1/breaches?metrics=A:A,A:B",
            "metrics",
            "'A:A,A:B' does not fit (several are given as metrics=…&metrics=…)",
        ),
        (
            "/v1/breaches?rules=a.b",
            "rules",
            "'a.b' does not fit (letters, digits, - and _, at most 64, a letter or a digit first)",
        ),
        ("/v1/rankings/price?limit=1_0", "limit", "'1_0' is not a whole number such as 10"),
        ("/v1/points/stream?cursor=", "cursor", "'' does not fit (the id of an event, or no cursor at all)"),
        ("/v1/rankings/prize", "measure", f"'prize' is not known here ({MEASURES})"),
        (f"{POINTS}?measures=a,b", "measures", "'a,b' is not known here (several are given as measures=…&measures=…)"),
        ("/v1/breaches?min_severity=X", "min_severity", "'X' is not known here ('info', 'warning' or 'critical')"),
        (
            f"{HISTORY}?start_time={ZONED}",
            "start_time",
            f"{NAKED!r} is not a time: in an address the + of +01:00 is written %2B",
        ),
        (
            f"{HISTORY}?start_time={'x' * 5000}",
            "start_time",
            f"'{'x' * 79}… is not a time such as 2026-11-24T12:00:00Z",
        ),
        (f"{HISTORY}?start_time=-1h", "start_time", "'-1h' is not a time such as 2026-11-24T12:00:00Z"),
        ("/v1/metrics/SIM:AAA/price/explanation", "rule", "is missing"),
        ("/v1/metrics?since=1h", "since", "is no parameter of this address (known here: exchange)"),
    ],
)
async def test_refusals_say_what_would_be_right(address: str, field: str, message: str) -> None:
    """In a person's words, and never by a regular expression alone."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answer = await gateway.http.get(address)

    assert (answer.status_code, answer.json()["error"]["message"]) == (400, f"{field}: {message}")


@pytest.mark.parametrize(
    ("address", "hint"),
    [("/v1/metrics/", "no address ends with /"), ("/v1/nowhere", "/openapi.json lists what there is")],
)
async def test_an_address_that_is_none_says_how_they_look(address: str, hint: str) -> None:
    """A slash too many is the most likely reason, and easily overlooked."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answer = await gateway.http.get(address)

    assert answer.json()["error"]["message"] == f"there is nothing at {address!r}; {hint}"


async def test_a_body_that_is_too_large() -> None:
    """What could fill the memory is refused, with a length and without."""

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 10_000

    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        headers = {"Content-Type": "application/json"}
        given = [b" " * 1_000_000, endless()]
        answers = [await gateway.http.post("/v1/rules:test", content=body, headers=headers) for body in given]

    assert [reason(answer) for answer in answers] == ["INVALID_FIELD"] * 2
    assert {answer.json()["error"]["message"] for answer in answers} == {"body: is too large (at most 262144 bytes)"}


async def test_nobody_behind_the_gateway() -> None:
    """Where a service is away, that is what is said, with when to try again; the other service's answers come."""
    store = make_store(make_market(["SIM:AAA"]))
    async with (
        serve_query(store) as behind,
        open_gateway(listen="127.0.0.1:0", query=behind.server.address, alerts=f"127.0.0.1:{free_port()}") as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as http,
    ):
        away = [await http.get(address) for address in ("/v1/breaches", "/v1/breaches/stream")]
        there = await http.get("/v1/metrics")
        well = await http.get("/readyz")

    assert [(answer.status_code, reason(answer)) for answer in away] == [(503, "UPSTREAM_UNAVAILABLE")] * 2
    assert [answer.headers["retry-after"] for answer in away] == ["2", "2"]
    assert (there.status_code, well.status_code) == (200, 200)


async def test_a_bug_is_told_once_and_without_its_words(monkeypatch: Any, caplog: Any) -> None:
    """What nobody expected is INTERNAL with an id, and the log has the whole of it under this id, once."""
    monkeypatch.setattr("services.gateway.encoding.metrics_document", lambda _metrics: {1: {"secret"}})
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        with caplog.at_level(logging.ERROR):
            answer = await gateway.http.get("/v1/metrics")
    told = answer.json()["error"]

    assert (answer.status_code, reason(answer)) == (500, "INTERNAL")
    assert "secret" not in answer.text
    (record,) = caplog.records
    assert told["details"][0]["metadata"]["incident"] in record.getMessage()


@pytest.mark.parametrize("kind", VERDICTS)
def test_reasons_are_those_of_grpc(kind: type[Exception]) -> None:
    """Each error of the table has the reason, the code and the details over HTTP that it has over gRPC."""
    refusal = refusal_of(EXAMPLES[kind])
    verdict = VERDICTS[kind]

    told = httpx.Response(refusal.status, content=refusal.body)
    assert reason(told) == verdict.reason
    assert told.json()["error"]["status"] == verdict.code.name
    assert refusal.status in (HTTP_STATUS[verdict.code], 405)
    assert len(told.json()["error"]["details"]) == len(to_wire_status(EXAMPLES[kind]).details)
    assert ("Retry-After" in refusal.headers) == (verdict.retry_seconds is not None)


def test_every_code_has_an_http_status() -> None:
    """No status of gRPC can leave the gateway at a loss."""
    assert set(HTTP_STATUS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
