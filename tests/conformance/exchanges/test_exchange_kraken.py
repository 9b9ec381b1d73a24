"""Kraken keeps the interface's promises: on recorded bodies, and over HTTP against the rig."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from services.collector.exchanges.base import Exchange, ExchangeOptions
from services.collector.exchanges.kraken import KrakenExchange
from services.core.clock import ManualClock, SystemClock
from tests.conformance.exchanges.exchange_suite import ExchangeSuite
from tests.support.exchanges import RunningExchange, recorded_body

FAST = ExchangeOptions(calls_per_second=1000, burst=1000)


class TestKrakenOverHttp(ExchangeSuite):
    """All of the suite, against a server of recorded candles; the minute may turn while a test runs."""

    @pytest.fixture
    def now(self) -> float:
        """The machine's time."""
        return time.time()

    @pytest.fixture
    def pairs(self) -> list[str]:
        """What the rig serves."""
        return ["BTCUSD", "ETHUSD", "XRPUSD"]

    @pytest.fixture
    async def exchange(self, rig: RunningExchange) -> AsyncIterator[Exchange]:
        """An exchange with a client of its own."""
        options = ExchangeOptions(base_url=rig.url, calls_per_second=1000, burst=1000)
        async with KrakenExchange(options, SystemClock()) as opened:
            yield opened


class TestKrakenRecorded(ExchangeSuite):
    """What was recorded of XBTUSDT on 2025-11-11: its ticker and its minute candles, a third of them without trades."""

    excuses = frozenset({"trades", "longer candles"})

    @pytest.fixture
    def now(self) -> float:
        """The moment of the recording: within the minute of its last, open candle."""
        return json.loads(recorded_body("ohlc_1m_XBTUSDT_20251110.json.gz"))["result"]["last"] + 60 + 10.0

    @pytest.fixture
    def pairs(self) -> list[str]:
        """The one that was recorded."""
        return ["BTCUSDT"]

    @pytest.fixture
    async def exchange(self, now: float) -> AsyncIterator[Exchange]:
        """An exchange on a transport that answers with the recorded bodies."""
        bodies = {
            "Ticker": recorded_body("ticker_XBTUSDT_202511.json"),
            "OHLC": recorded_body("ohlc_1m_XBTUSDT_20251110.json.gz"),
            "AssetPairs": json.dumps(
                {"error": [], "result": {"XBTUSDT": {"altname": "XBTUSDT", "wsname": "XBT/USDT"}}}
            ),
        }
        unknown = recorded_body("errors_transcribed/EQuery_unknown_asset_pair.json")

        def answer(request: httpx.Request) -> httpx.Response:
            asked = request.url.params.get("pair", "XBTUSDT")
            body = bodies[request.url.path.rsplit("/", 1)[1]] if asked == "XBTUSDT" else unknown
            return httpx.Response(200, text=body)

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            yield KrakenExchange(FAST, ManualClock(now), client)
