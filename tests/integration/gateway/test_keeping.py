"""Answers are made once, sent once to who has them, and never outlive what they tell."""

from __future__ import annotations

import gzip

import httpx

from services.core.model import Measure, Points, Quality, Series
from services.gateway.answers import KEPT_SECONDS, Answer, KeptAnswers
from tests.support.gateway import Gateway, reading, serve
from tests.support.query import LAST, eventually, make_market, make_store

HISTORY = "/v1/metrics/SIM:AAA/price/history"


def computed(gateway: Gateway) -> float:
    """Return how many calls the query service has answered."""
    value = gateway.behind.get_sample_value(
        "grpc_server_started_total",
        {"grpc_type": "unary", "grpc_service": "tickwatch.v1.QueryService", "grpc_method": "GetHistory"},
    )
    return value or 0.0


async def test_what_one_has_is_not_sent_again() -> None:
    """With its ETag an answer is 304 and empty, until there is another; in any compression, and by HEAD too."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        first = await gateway.http.get(HISTORY)
        known = {"If-None-Match": first.headers["etag"]}
        again = await gateway.http.get(HISTORY, headers=known)
        plain = await gateway.http.get(HISTORY, headers={**known, "Accept-Encoding": "identity"})
        listed = await gateway.http.get(HISTORY, headers={"If-None-Match": f'"a", {first.headers["etag"]}'})
        other = await gateway.http.get(HISTORY, headers={"If-None-Match": '"other"'})
        head = await gateway.http.head(HISTORY, headers={"Accept-Encoding": "identity"})
        head_known = await gateway.http.head(HISTORY, headers=known)

    assert [each.status_code for each in (again, plain, listed, head_known)] == [304] * 4
    assert not again.content
    assert "content-length" not in again.headers
    assert again.headers["etag"] == first.headers["etag"]
    assert (other.status_code, other.content) == (200, first.content)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(first.content)
    assert first.headers["cache-control"] == "no-cache"


async def test_news_end_what_is_kept() -> None:
    """Once a stream has brought a point, the next request has it, however short the time between; the tag is new."""
    store = make_store(make_market(["SIM:AAA"]))
    series = Series("SIM:AAA", Measure.PRICE)
    async with serve(store, kept_seconds=3600.0) as gateway, reading(gateway.http, "/v1/points/stream") as reader:
        await reader.next("bookmark")
        before = await gateway.http.get(HISTORY)
        kept = await gateway.http.get(HISTORY)
        calls = computed(gateway)
        store.write(Points.of([(series, LAST, 4711.0, Quality.OBSERVED)]))
        await reader.next("points")
        after = await gateway.http.get(HISTORY, headers={"If-None-Match": before.headers["etag"]})

    assert calls == 1
    assert kept.content == before.content
    assert after.status_code == 200
    assert after.json()["values"][-1] == 4711.0


async def test_a_slot_that_ends_shows_within_the_second() -> None:
    """Without any stream an answer is asked for anew after the time it is kept for."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store, kept_seconds=0.01) as gateway:
        before = await gateway.http.get(HISTORY)
        store.write(Points.of([(Series("SIM:AAA", Measure.PRICE), LAST, 4711.0, Quality.OBSERVED)]))

        async def ask() -> httpx.Response:
            return await gateway.http.get(HISTORY)

        await eventually(ask, lambda answer: answer.json()["values"][-1] == 4711.0, seconds=20)

    assert before.json()["values"][-1] != 4711.0
    assert KEPT_SECONDS <= 1.0


async def test_gzip_for_who_takes_it() -> None:
    """A large answer is compressed where that is accepted, with the same content; a small one is not."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        async with gateway.http.stream("GET", HISTORY, headers={"Accept-Encoding": "gzip"}) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
        plain = await gateway.http.get(HISTORY, headers={"Accept-Encoding": "identity"})
        refused = await gateway.http.get(HISTORY, headers={"Accept-Encoding": "gzip;q=0"})
        small = await gateway.http.get("/v1/metrics?exchange=NONE", headers={"Accept-Encoding": "gzip"})

    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content == refused.content
    assert len(raw) < len(plain.content) * 0.6
    assert [each.headers.get("content-encoding") for each in (plain, refused, small)] == [None] * 3
    assert "Accept-Encoding" in answer.headers["vary"]


async def test_answers_are_kept_apart() -> None:
    """CSV and JSON, and what callers with other credentials were told, never stand in for each other."""
    async with serve(make_store(make_market(["SIM:AAA"])), kept_seconds=3600.0) as gateway:
        as_json = await gateway.http.get(HISTORY)
        as_csv = await gateway.http.get(HISTORY, headers={"Accept": "text/csv"})
        calls = computed(gateway)
        mine = await gateway.http.get(HISTORY, headers={"Authorization": "Bearer mine"})

    assert as_json.headers["content-type"] != as_csv.headers["content-type"]
    assert as_json.headers["etag"] != as_csv.headers["etag"]
    assert computed(gateway) == calls + 1
    assert mine.headers["cache-control"] == "private, no-cache"


def test_what_is_kept_is_bounded() -> None:
    """However many addresses are asked for, their answers take 64 MB at most; the latest stay."""
    answers = KeptAnswers()
    keys = [(f"/{number}", b"", b"", b"") for number in range(200)]
    for key in keys:
        answers.keep(key, Answer([], b" " * 500_000, None, private=False), answers.generation)

    kept = [key for key in keys if answers.find(key)]
    assert kept == keys[-len(kept) :]
    assert 60 <= len(kept) <= 64 * 1024 * 1024 / 1_000_000


def test_what_was_asked_before_the_news_is_not_kept() -> None:
    """An answer under way while news came may lack them."""
    answers = KeptAnswers()
    key = ("/", b"", b"", b"")
    generation = answers.generation
    answers.forget()
    answers.keep(key, Answer([], b"", None, private=False), generation)

    assert answers.find(key) is None
