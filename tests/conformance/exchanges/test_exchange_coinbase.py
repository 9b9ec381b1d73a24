"""Coinbase keeps the interface's promises over HTTP against the rig, and reads what was recorded of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from services.collector.exchanges.base import Exchange, ExchangeOptions, Ticker
from services.collector.exchanges.coinbase import CoinbaseExchange
from services.core.clock import ManualClock, SystemClock
from services.core.model import Slot, Window, slot_time
from tests.conformance.exchanges.exchange_suite import ExchangeSuite
from tests.support.exchanges import RunningExchange, recorded_body

FAST = ExchangeOptions(calls_per_second=1000, burst=1000, retry_seconds=0.01)


class TestCoinbaseOverHttp(ExchangeSuite):
    """All of the suite, against a server of recorded candles; the minute may turn while a test runs."""

    @pytest.fixture
    def now(self) -> float:
        """Ten seconds ago: the minute that had ended then is complete, whatever second it is."""
        return time.time() - 10

    @pytest.fixture
    def pairs(self) -> list[str]:
        """What the rig serves."""
        return ["BTCUSD", "ETHUSD", "XRPUSD"]

    @pytest.fixture
    async def exchange(self, rig: RunningExchange) -> AsyncIterator[Exchange]:
        """An exchange with a client of its own."""
        options = ExchangeOptions(base_url=rig.url, calls_per_second=1000, burst=1000)
        async with CoinbaseExchange(options, SystemClock()) as opened:
            yield opened


async def recorded(path: str, body: str, now: float) -> tuple[CoinbaseExchange, list[httpx.Request]]:
    """Coinbase on a transport that answers this path with a body, and what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = request.url.path == path
        return httpx.Response(200 if found else 404, text=body if found else '{"message":"NotFound"}')

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return CoinbaseExchange(FAST, ManualClock(now), client), asked


async def test_a_recorded_ticker() -> None:
    """`price` and `volume` count; the product's name is ours with a dash."""
    body = recorded_body("exchange_ticker_BTC-USD_20171003.vcr.yml", "ticker", exchange="coinbase")
    exchange, asked = await recorded("/products/BTC-USD/ticker", body, 1_507_003_235.0)

    sample = await exchange.sample(["BTCUSD"])

    assert {"BTCUSD": Ticker(4417.01, 7878.23402368)} == sample.tickers
    assert len(asked) == 1


async def test_recorded_candles() -> None:
    """They are listed newest first, as time, low, high, open, CLOSE and volume."""
    body = recorded_body("exchange_candles_60s_20180201.json", exchange="coinbase")
    exchange, asked = await recorded("/products/BTC-USD/candles", body, 1_517_443_740.0 + 70)
    newest = Slot(1_517_443_740 // 60)

    candles = await exchange.candles("BTCUSD", Window.ending(newest + 1, 10))

    assert f"{slot_time(int(candles.slots[-1])):%Y-%m-%d %H:%M}" == "2018-02-01 00:09"
    assert len(candles.slots) == 10
    assert candles.closes[-2:].tolist() == [10106.01, 10120.21]
    assert candles.volumes[-1] == 2.85107455
    assert (np.diff(candles.slots) == 1).all()
    assert asked[0].url.params["granularity"] == "60"
