"""Exchanges for tests: the rig's as a process over HTTP, and one that says what a test put into it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import yaml

from services.collector.exchanges.base import Candles, Exchange, Sample, Ticker
from services.core.clock import SystemClock
from services.core.errors import ExchangeError
from services.core.model import Slot, Window
from tests.support.needs import require_recordings, require_rig

_TIMEOUT_SECONDS = 30.0


class RunningExchange:
    """A running rig/exchange: `url` is its address; the API of Kraken is below it at /0/public/."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post_fault(self, kind: str, *, count: int | None = None, path: str = "/") -> None:
        """Have the next `count` requests below `path` (None: all) answered with this fault; see rig/exchange.md."""
        self._control("POST", "/rig/faults", {"kind": kind, "count": count, "path": path})

    def clear_faults(self) -> None:
        """End all faults."""
        self._control("DELETE", "/rig/faults")

    def stats(self) -> dict[str, Any]:
        """Return `epoch`, and `requests` and `times` by path, and `faults` by kind, since the last clearing."""
        answer: dict[str, Any] = self._control("GET", "/rig/stats")
        return answer

    def clear_stats(self) -> None:
        """Count requests and faults from zero."""
        self._control("DELETE", "/rig/stats")

    def kraken(self, call: str, **query: object) -> dict[str, Any]:
        """Ask Kraken's public API directly and return `result`, past the code under test."""
        text = "&".join(f"{name}={value}" for name, value in query.items())
        answer: dict[str, Any] = self.ask(f"/0/public/{call}?{text}")["result"]
        return answer

    def ask(self, path: str) -> Any:
        """Ask any of its APIs directly and return the answer, past the code under test."""
        return self._control("GET", path)

    def _control(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310  loopback
            return json.loads(response.read())


@contextlib.contextmanager
def running_exchange(*args: str) -> Iterator[RunningExchange]:
    """Start rig/exchange on a free port with these arguments and stop it at the end; skips where there is no rig."""
    program = require_rig() / "exchange"
    command = [sys.executable, str(program), "--port", "0", *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, f"rig/exchange did not say where it listens: {command}"
        yield RunningExchange(found.group(0))
    finally:
        process.terminate()
        process.wait(timeout=_TIMEOUT_SECONDS)
        process.stdout.close()


def recorded_body(name: str, call: str = "", *, exchange: str = "kraken") -> str:
    """Return a recorded body of an exchange: a file, or in a .vcr file the answer to the URL with `call`.

    A .gz is opened. Skips where there are no recordings.
    """
    path = require_recordings() / exchange / name
    text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    if ".vcr." not in name:
        return text
    recording = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  a safe loader, in C
    for exchanged in recording.get("interactions") or recording["http_interactions"]:
        if call in exchanged["request"]["uri"]:
            return str(exchanged["response"]["body"]["string"])
    raise AssertionError(f"{name} has no call of {call}")


class PinnedClock(SystemClock):
    """The machine's time, but never out of the minute it was made in, with pauses that cost none.

    The rig plays by the machine's clock, which no test can set; so a test stays on time however slow it is.
    `offset_seconds` is how wrong the clock is set.
    """

    def __init__(self, offset_seconds: float = 0.0) -> None:
        self._end = (time.time() // 60 + 1) * 60 - 0.5
        self._offset = offset_seconds

    def now(self) -> float:
        return min(super().now(), self._end) + self._offset

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class ScriptedExchange(Exchange):
    """An exchange that says what a test put into it, and remembers what it was asked.

    Its candles are those in `minutes` up to `newest`; `older_reach` slots before that only `older_candles` tells them.
    """

    candle_reach: int | None = 720
    coarse_minutes = 5

    def __init__(self, name: str, newest: Slot) -> None:
        self.name = name
        self.newest = newest
        self.minutes: dict[str, dict[int, tuple[float, float]]] = {}
        """By pair and slot, close and volume."""
        self.tickers: dict[str, Ticker] = {}
        self.candle_failures: dict[str, Exception] = {}
        self.ticker_failures: dict[str, ExchangeError] = {}
        self.older_failures: list[ExchangeError] = []
        """Raised by the next calls of `older_candles`, each after one piece."""
        self.coarse: dict[str, dict[Slot, float]] = {}
        self.asked: list[tuple[str, str, Window | None]] = []
        """Question, pair (or pairs) and window, in order."""
        self.gate: asyncio.Event | None = None
        """Candles are told once it is set."""
        self.closed = False

    async def sample(self, pairs: Sequence[str]) -> Sample:
        self.asked.append(("sample", ",".join(pairs), None))
        failures = {pair: self.ticker_failures[pair] for pair in pairs if pair in self.ticker_failures}
        return Sample({pair: self.tickers[pair] for pair in pairs if pair in self.tickers}, failures)

    async def candles(self, pair: str, window: Window) -> Candles:
        self.asked.append(("candles", pair, window))
        if self.gate:
            await self.gate.wait()
        if pair in self.candle_failures:
            raise self.candle_failures[pair]
        first = self.newest + 1 - (self.candle_reach or len(window))
        return self._told(pair, Window(max(window.start, Slot(first)), Slot(self.newest + 1)))

    async def older_candles(self, pair: str, window: Window) -> AsyncIterator[Candles]:
        self.asked.append(("older", pair, window))
        for start in range(window.start, window.end, 60):
            yield self._told(pair, Window(Slot(start), Slot(min(start + 60, window.end))))
            if self.older_failures:
                raise self.older_failures.pop(0)

    async def coarse_closes(self, pair: str, window: Window) -> Mapping[Slot, float]:
        self.asked.append(("coarse", pair, window))
        return {slot: close for slot, close in self.coarse.get(pair, {}).items() if slot in window}

    async def close(self) -> None:
        self.closed = True

    def questions(self, kind: str) -> list[tuple[str, Window | None]]:
        """What was asked of this kind."""
        return [(pair, window) for asked, pair, window in self.asked if asked == kind]

    def _told(self, pair: str, window: Window) -> Candles:
        known = self.minutes.get(pair, {})
        slots = [slot for slot in range(window.start, window.end) if slot in known]
        return Candles.of(window, slots, [known[s][0] for s in slots], [known[s][1] for s in slots])
