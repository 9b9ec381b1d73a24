"""Calls over HTTP: what is tried again, what is waited for, and whose words an error has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from services.collector.exchanges.base import ExchangeOptions
from services.collector.exchanges.calling import JsonApi
from services.core.clock import ManualClock
from services.core.errors import (
    ExchangeMalformedError,
    ExchangeRefusedError,
    ExchangeUnavailableError,
    InvalidSettingError,
)

START = 1_700_000_000.0
Answers = list[httpx.Response | Exception]


class Scripted:
    """A transport that answers in turn, and the calls it got."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer, the last answer for ever."""
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


Api = Callable[..., tuple[JsonApi, Scripted]]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that sleeping moves."""
    return ManualClock(START)


@pytest.fixture
async def api(clock: ManualClock) -> AsyncIterator[Api]:
    """Make an API that answers so; closes its clients at the end."""
    clients = []

    def make(*answers: httpx.Response | Exception, **options: Any) -> tuple[JsonApi, Scripted]:
        scripted = Scripted(list(answers))
        client = httpx.AsyncClient(transport=httpx.MockTransport(scripted))
        clients.append(client)
        made = JsonApi("X", "http://x.test", ExchangeOptions(**options), clock, client=client, gap_fill_seconds=0.001)
        return made, scripted

    yield make
    for client in clients:
        await client.aclose()


def ok(body: object) -> httpx.Response:
    """An answer of JSON."""
    return httpx.Response(200, text=json.dumps(body))


BROKEN: list[tuple[httpx.Response | Exception, str]] = [
    (httpx.Response(503, text="<html><body><h1>Away</h1></body></html>"), "HTTP 503 Service Unavailable: <html>"),
    (httpx.Response(520, text="<html><title>520: unknown\n error</title></html>"), "HTTP 520: 520: unknown error"),
    (httpx.Response(429, text='{"message":"Too many requests"}'), "HTTP 429 Too Many Requests: {"),
    (httpx.Response(200, text='{"error":[],"resu'), 'an answer that is not JSON: {"error":[],"resu'),
    (httpx.Response(200, text='{"a": NaN}'), "an answer that is not JSON"),
    (httpx.ReadError("reset by peer"), "the connection was cut: reset by peer"),
    (httpx.RemoteProtocolError("incomplete"), "the connection ended within the answer: incomplete"),
    (httpx.ConnectError("refused"), "no connection: refused"),
    (httpx.ReadTimeout(""), "no answer in time"),
]


@pytest.mark.parametrize(("answer", "words"), BROKEN)
async def test_what_might_succeed_later_is_tried_three_times(
    api: Api, clock: ManualClock, answer: httpx.Response | Exception, words: str
) -> None:
    """Two repetitions, a second of pauses at most, and then the exchange's words."""
    called, scripted = api(answer)
    with pytest.raises((ExchangeUnavailableError, ExchangeMalformedError)) as failed:
        await called.get("/p", {}, lambda body: body)

    assert 3 == scripted.calls
    assert words in failed.value.words
    assert 0 < clock.now() - START <= 1.5


@pytest.mark.parametrize(("answer", "words"), BROKEN)
async def test_a_repetition_that_succeeds_is_a_success(
    api: Api, answer: httpx.Response | Exception, words: str
) -> None:
    """A hiccup costs nothing but time."""
    called, _ = api(answer, answer, ok({"a": 1}))
    assert {"a": 1} == await called.get("/p", {}, lambda body: body), words


async def test_a_refusal_is_not_repeated(api: Api) -> None:
    """Asking again changes nothing."""
    called, scripted = api(httpx.Response(404, text="no such path"))
    with pytest.raises(ExchangeRefusedError, match="HTTP 404 Not Found: no such path"):
        await called.get("/p", {}, lambda body: body)
    assert 1 == scripted.calls


async def test_a_malformed_value_is_not_repeated(api: Api) -> None:
    """What `read` cannot take is told at once."""
    called, scripted = api(ok({}))

    def read(body: object) -> None:
        raise ExchangeMalformedError("X", f"no price in {body}")

    with pytest.raises(ExchangeMalformedError, match="no price"):
        await called.get("/p", {}, read)
    assert 1 == scripted.calls


@pytest.mark.parametrize("header", ["7", "Tue, 14 Nov 2023 22:13:27 GMT"])
async def test_retry_after_is_waited_for(api: Api, clock: ManualClock, header: str) -> None:
    """In seconds or as a date, as RFC 9110 has it."""
    called, scripted = api(httpx.Response(429, headers={"Retry-After": header}), ok(1))
    assert 1 == await called.get("/p", {}, lambda body: body)
    assert (2, 7.0) == (scripted.calls, clock.now() - START)


async def test_a_long_silence_is_kept_by_every_call(api: Api, clock: ManualClock) -> None:
    """Asked to stay away for longer than a run bears, nobody calls until the time has come."""
    called, scripted = api(httpx.Response(429, headers={"Retry-After": "120"}), ok(1))
    with pytest.raises(ExchangeUnavailableError) as first:
        await called.get("/p", {}, lambda body: body)
    clock.advance(60)
    with pytest.raises(ExchangeUnavailableError, match="not called for another 60 s") as second:
        await called.get("/q", {}, lambda body: body)

    assert (1, 120.0, 60.0) == (scripted.calls, first.value.retry_after_seconds, second.value.retry_after_seconds)
    clock.advance(60)
    assert 1 == await called.get("/p", {}, lambda body: body)


async def test_a_short_silence_is_waited_out_by_other_calls(api: Api, clock: ManualClock) -> None:
    """The next call waits instead of making it worse."""
    called, scripted = api(httpx.Response(503, headers={"Retry-After": "5"}), ok(1), retries=0)
    with pytest.raises(ExchangeUnavailableError):
        await called.get("/p", {}, lambda body: body)
    assert 1 == await called.get("/q", {}, lambda body: body)
    assert (2, 5.0) == (scripted.calls, clock.now() - START)


async def test_decimals_reach_the_reader_as_they_were_sent(api: Api) -> None:
    """A double would lose the last digits of a time in nanoseconds."""
    called, _ = api(httpx.Response(200, text='{"t": 1700000000.123456789}'))
    assert {"t": "1700000000.123456789"} == await called.get("/p", {}, lambda body: body)


@pytest.mark.parametrize("url", ["", "api.kraken.com", "ftp://x", "http://", "http://a b"])
def test_a_base_url_that_is_none_is_a_wrong_setting(clock: ManualClock, url: str) -> None:
    """It is told by its name."""
    with pytest.raises(InvalidSettingError, match=r"exchanges\.x\.base_url: .* is not an address"):
        JsonApi("X", url, ExchangeOptions(), clock, client=None, gap_fill_seconds=1.5)


@pytest.mark.parametrize(
    "wrong", [{"timeout_seconds": 0}, {"burst": -1}, {"calls_per_second": float("nan")}, {"retries": -1}]
)
def test_impossible_options_are_wrong_settings(wrong: dict[str, Any]) -> None:
    """They are told by their names when they are made."""
    with pytest.raises(InvalidSettingError, match=f"exchanges.{next(iter(wrong))}"):
        ExchangeOptions(**wrong)
