"""What HTTP itself promises: methods, what is accepted, who may keep an answer, and bodies of every kind."""

from __future__ import annotations

import asyncio
import gzip
import json

import httpx
import pytest

from tests.support.gateway import reason, serve
from tests.support.query import make_market, make_store

HISTORY = "/v1/metrics/SIM:AAA/price/history"


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("POST", "/", "GET, HEAD"),
        ("PUT", HISTORY, "GET, HEAD"),
        ("OPTIONS", "/v1/metrics", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/pricetracker/metrics", "GET, HEAD"),
        ("HEAD", "/v1/breaches/stream", "GET"),
        ("GET", "/v1/rules:test", "POST"),
        ("GET", "/v1/silences/0123456789abcdef", "DELETE"),
    ],
)
async def test_another_method_is_told_which_are_possible(method: str, address: str, allowed: str) -> None:
    """405 names every method of the address, HEAD among them where GET has an end."""
    async with serve(make_store()) as gateway:
        answer = await gateway.http.request(method, address)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert method == "HEAD" or reason(answer) == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize("address", ["/nowhere", "/js/nothing.js", "/v1/metrics/", f"{HISTORY}/", "//v1/metrics"])
async def test_where_nothing_is_no_method_helps(address: str) -> None:
    """404 by any method, also where only a slash is too many: no address has a second spelling."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answers = [await gateway.http.request(method, address) for method in ("GET", "PUT", "POST")]

    assert [(answer.status_code, reason(answer)) for answer in answers] == [(404, "ADDRESS_NOT_FOUND")] * 3


@pytest.mark.parametrize("address", ["/", "/healthz", "/readyz", "/openapi.json", "/v1/metrics", HISTORY])
async def test_head_is_get_without_the_body(address: str) -> None:
    """The same status and headers."""
    async with serve(make_store(make_market(["SIM:AAA"])), kept_seconds=3600.0) as gateway:
        got = await gateway.http.get(address, headers={"Accept-Encoding": "identity"})
        head = await gateway.http.head(address, headers={"Accept-Encoding": "identity"})

    def told(answer: httpx.Response) -> dict[str, str]:
        return {name: value for name, value in answer.headers.items() if name != "date"}

    assert (head.status_code, told(head), head.content) == (got.status_code, told(got), b"")


async def test_who_may_keep_an_answer() -> None:
    """Answers with an ETag are asked about each time, by whatever they depend on; nothing else is kept by anybody."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        kept = [await gateway.http.get(address) for address in ("/", HISTORY, "/v1/rules")]
        own = await gateway.http.get(HISTORY, headers={"Authorization": "Bearer mine"})
        silence = await gateway.http.post("/v1/silences", json={"duration": "1h"})
        others = [
            silence,
            await gateway.http.get("/healthz"),
            await gateway.http.get("/nowhere"),
            await gateway.http.post("/v1/rules:test", json={"rule_name": "three-times-the-hour"}),
            await gateway.http.delete(f"/v1/silences/{silence.json()['id']}"),
        ]

    assert {answer.headers["cache-control"] for answer in kept} == {"no-cache"}
    assert {answer.headers["vary"] for answer in kept} == {"Accept, Accept-Encoding, Authorization"}
    assert own.headers["cache-control"] == "private, no-cache"
    assert [answer.status_code for answer in others] == [200, 200, 404, 200, 200]
    assert {answer.headers["cache-control"] for answer in others} == {"no-store"}
    assert not any("etag" in answer.headers for answer in others)


async def test_answers_to_pages_of_other_origins_depend_on_the_origin() -> None:
    """With CORS on every answer says so, to whoever asks: a cache must not hand one page's answer to another."""
    async with serve(make_store(make_market(["SIM:AAA"])), cors_origins=("https://desk.example.com",)) as gateway:
        answers = [
            await gateway.http.get(HISTORY, headers={"Origin": origin} if origin else {})
            for origin in ("", "https://desk.example.com", "https://elsewhere.example.com")
        ]

    assert ["Origin" in answer.headers["vary"] for answer in answers] == [True] * 3


async def test_a_header_given_twice_means_both() -> None:
    """What is kept for one who accepts CSV is never sent to who accepts anything, however they say so."""
    async with serve(make_store(make_market(["SIM:AAA"])), kept_seconds=3600.0) as gateway:
        both = await gateway.http.get(HISTORY, headers=[("Accept", "text/csv"), ("Accept", "*/*;q=0.1")])
        anything = await gateway.http.get(HISTORY, headers={"Accept": "*/*;q=0.1"})
        tags = [("If-None-Match", '"other"'), ("If-None-Match", anything.headers["etag"])]
        known = await gateway.http.get(HISTORY, headers=[("Accept", "*/*;q=0.1"), *tags])

    assert both.headers["content-type"].startswith("text/csv")
    assert anything.headers["content-type"] == "application/json"
    assert known.status_code == 304


async def test_what_is_accepted_and_does_not_exist() -> None:
    """Whoever accepts neither JSON nor CSV, or asks for CSV where there is none, gets JSON, and so does an error."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answers = [
            await gateway.http.get(HISTORY, headers={"Accept": "application/xml"}),
            await gateway.http.get("/v1/breaches", headers={"Accept": "text/csv"}),
            await gateway.http.get("/v1/rankings/prize", headers={"Accept": "text/csv"}),
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 400]
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b'{"rule_name": "a"}', "application/x-www-form-urlencoded", "send the header Content-Type: application/json"),
        (b'{"rule_name": "a"}', "text/plain", "send the header Content-Type: application/json"),
        (b"", "application/json", "body: is missing"),
        (b"{nope", "application/json", "body: is not JSON: Expecting property name"),
        (b'{"rule_name": "\xff"}', "application/json", "body: is not JSON in UTF-8 (one JSON object)"),
        (gzip.compress(b'{"rule_name": "a"}'), "application/json", "body: is not JSON in UTF-8 (one JSON object)"),
        (b"[" * 100_000, "application/json", "body: is not JSON in UTF-8 (one JSON object)"),
        (b"null", "application/json", "body: is no JSON object"),
        (b'{"rule": 5}', "application/json", "rule: is no JSON object"),
        (b'{"rule": {"name": "b", "ratio": {"faktor": 1}}}', "application/json", "rule.ratio.faktor: is no field here"),
        (b" " * 300_000, "application/json", "body: is too large (at most 262144 bytes)"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_in_words_that_help(body: bytes, kind: str, words: str) -> None:
    """Above all where curl has sent JSON as the form that it takes everything for."""
    async with serve(make_store()) as gateway:
        answer = await gateway.http.post("/v1/rules:test", content=body, headers={"Content-Type": kind})

    assert (answer.status_code, reason(answer)) == (400, "INVALID_FIELD")
    assert words in answer.json()["error"]["message"]


async def test_http_1_0_is_answered() -> None:
    """Old programs and some probes speak it: they get the answer whole, and the connection's end."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.server.port)
        writer.write(b"GET /v1/metrics HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(20):
            got = await reader.read()
        writer.close()
        await writer.wait_closed()
        known = (await gateway.http.get("/v1/metrics")).json()
    head, _, body = got.partition(b"\r\n\r\n")

    assert b" 200 OK\r\n" in head
    assert b"transfer-encoding" not in head.lower()
    assert json.loads(body) == known
