"""Calls to an exchange's JSON API over HTTP: pace, time limit, repetitions, and failures in the exchange's own words.

It knows HTTP and patience, but no exchange's format: what a body means is told by the `read` function of the caller.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import httpx
from aiolimiter import AsyncLimiter

from services.collector.exchanges.base import ExchangeOptions
from services.core.clock import Clock
from services.core.errors import (
    ExchangeError,
    ExchangeMalformedError,
    ExchangeRefusedError,
    ExchangeUnavailableError,
    InvalidSettingError,
)
from services.core.http_text import excerpt, moment_of, retry_after_seconds, status_words

T = TypeVar("T")

_LATER = {408, 418, 425, 429}
"""418 is Binance's for who went on after a 429."""


class JsonApi:
    """One exchange's API, for as long as a process lives.

    A client that is given is used as it is and not closed; else one is made. An exchange that says when to come back
    is not called before, by none of the calls: they wait if it is soon and fail at once if it is not.
    `gap_fill_seconds` is the least distance of slow calls where the options do not say another, `calls_per_second` the
    pace of a run's calls behind its burst.
    """

    def __init__(
        self,
        exchange: str,
        base_url: str,
        options: ExchangeOptions,
        clock: Clock,
        *,
        client: httpx.AsyncClient | None,
        gap_fill_seconds: float,
        calls_per_second: float = 1.0,
    ) -> None:
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", base_url):
            raise InvalidSettingError(
                f"exchanges.{exchange.lower()}.base_url", f"{base_url!r} is not an address", "http(s)://HOST[:PORT]"
            )
        self.exchange = exchange
        self._base_url = base_url.rstrip("/")
        self._options = options
        self._clock = clock
        self._given = client
        self._own: httpx.AsyncClient | None = None
        self._pace = AsyncLimiter(options.burst, options.burst / calls_per_second)
        pace = options.calls_per_second
        self._slow_pace = AsyncLimiter(1, gap_fill_seconds if pace is None else 1 / pace)
        self._told_time: float | None = None
        self._quiet_until = 0.0
        self._quiet_words = ""

    async def get(self, path: str, query: Mapping[str, str], read: Callable[[Any], T], *, slowly: bool = False) -> T:
        """Return what `read` makes of the body; `slowly` uses the pace of gap-filling calls.

        What might succeed later is repeated: no or a broken answer, a 5xx, and whatever `read` raises as
        ExchangeUnavailableError. Floating-point numbers of the body reach `read` as the strings they were sent as.
        """
        pause = self._options.retry_seconds
        for left in range(self._options.retries, -1, -1):
            await self._respect_silence()
            try:
                return read(await self._call(path, query, self._slow_pace if slowly else self._pace))
            except (ExchangeUnavailableError, _BrokenBodyError) as error:
                wait = self._note_silence(error)
                wait = pause * random.uniform(0.5, 1) if wait is None else wait  # noqa: S311  jitter needs no secrecy
                if not left or wait > self._options.longest_pause_seconds:
                    raise
                await self._clock.sleep(wait)
                pause *= 2
        raise AssertionError("unreachable: the last repetition returns or raises")

    def time_there(self) -> float:
        """Return the time of the newest answer by the exchange's clock, to the second; by ours where it tells none."""
        return self._clock.now() if self._told_time is None else self._told_time

    async def close(self) -> None:
        """Close the client if it is our own."""
        own, self._own = self._own, None
        if own:
            await own.aclose()

    async def _call(self, path: str, query: Mapping[str, str], pace: AsyncLimiter) -> Any:  # noqa: ANN401  JSON
        try:
            async with pace, asyncio.timeout(self._options.timeout_seconds):
                response = await self._client().get(self._base_url + path, params=query)
        except TimeoutError as error:
            words = f"no answer within {self._options.timeout_seconds:g} s"
            raise ExchangeUnavailableError(self.exchange, words) from error
        except httpx.RequestError as error:
            raise ExchangeUnavailableError(self.exchange, _transport_words(error)) from error
        if response.status_code != httpx.codes.OK:
            self._refuse(response)
        self._told_time = moment_of(response.headers.get("Date", ""))
        try:
            return json.loads(response.content, parse_float=str, parse_constant=_no_constant)
        except ValueError as error:
            words = f"an answer that is not JSON: {excerpt(response.text)}"
            raise _BrokenBodyError(self.exchange, words) from error

    def _client(self) -> httpx.AsyncClient:
        if self._given:
            return self._given
        if not self._own:
            options = self._options
            self._own = httpx.AsyncClient(
                timeout=httpx.Timeout(options.timeout_seconds, connect=options.connect_timeout_seconds),
                headers={"User-Agent": "tickwatch"},
                # Loading the certificates takes longer than a run's calls; without TLS nothing needs them.
                verify=self._base_url.startswith("https:"),
            )
        return self._own

    def _refuse(self, response: httpx.Response) -> NoReturn:
        words = status_words(response.status_code, response.reason_phrase, response.text)
        if response.status_code in _LATER or response.is_server_error:
            after = retry_after_seconds(response.headers.get("Retry-After", ""), self._clock.now())
            raise ExchangeUnavailableError(self.exchange, words, retry_after_seconds=after)
        raise ExchangeRefusedError(self.exchange, words)

    async def _respect_silence(self) -> None:
        remaining = self._quiet_until - self._clock.now()
        if remaining > self._options.longest_pause_seconds:
            words = f"{self._quiet_words} (not called for another {remaining:.0f} s)"
            raise ExchangeUnavailableError(self.exchange, words, retry_after_seconds=remaining)
        if remaining > 0:
            await self._clock.sleep(remaining)

    def _note_silence(self, error: ExchangeUnavailableError | _BrokenBodyError) -> float | None:
        after = error.retry_after_seconds if isinstance(error, ExchangeUnavailableError) else None
        if after is not None:
            self._quiet_until = max(self._quiet_until, self._clock.now() + after)
            self._quiet_words = error.words
        return after


def about(pair: str, error: ExchangeError) -> ExchangeError:
    """Return the same error, naming the pair."""
    if error.pair == pair:
        return error
    if isinstance(error, ExchangeUnavailableError):
        return ExchangeUnavailableError(error.exchange, error.words, pair, error.retry_after_seconds)
    kind = type(error) if type(error) in (ExchangeRefusedError, ExchangeMalformedError) else ExchangeMalformedError
    return kind(error.exchange, error.words, pair)


class _BrokenBodyError(ExchangeMalformedError):
    """A body that ended early or is no JSON at all: unlike a wrong value, worth another try."""


def _transport_words(error: httpx.RequestError) -> str:
    kinds: list[tuple[type[httpx.RequestError], str]] = [
        (httpx.ConnectTimeout, "the connection did not open in time"),
        (httpx.TimeoutException, "no answer in time"),
        (httpx.ConnectError, "no connection"),
        (httpx.RemoteProtocolError, "the connection ended within the answer"),
        (httpx.ReadError, "the connection was cut"),
    ]
    words = next((words for kind, words in kinds if isinstance(error, kind)), type(error).__name__)
    return f"{words}: {error}" if str(error) else words


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
