"""Binance keeps the interface's promises over HTTP against the rig, and reads what was recorded of it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from services.collector.exchanges import binance
from services.collector.exchanges.base import Exchange, ExchangeOptions, Ticker
from services.collector.exchanges.binance import BinanceExchange
from services.core.clock import ManualClock, SystemClock
from services.core.errors import ExchangeRefusedError
from services.core.model import Metric, Window, slot_time
from tests.conformance.exchanges.exchange_suite import ExchangeSuite
from tests.support.exchanges import RunningExchange, recorded_body

FAST = ExchangeOptions(calls_per_second=1000, burst=1000, retry_seconds=0.01)


class TestBinanceOverHttp(ExchangeSuite):
    """All of the suite, against a server of recorded candles; the minute may turn while a test runs."""

    @pytest.fixture
    def now(self) -> float:
        """Ten seconds ago: the minute that had ended then is complete, whatever second it is."""
        return time.time() - 10

    @pytest.fixture
    def pairs(self) -> list[str]:
        """What the rig serves."""
        return ["BTCUSDT", "ETHUSDT", "XRPUSDT"]

    @pytest.fixture
    async def exchange(self, rig: RunningExchange) -> AsyncIterator[Exchange]:
        """An exchange with a client of its own."""
        options = ExchangeOptions(base_url=rig.url, calls_per_second=1000, burst=1000)
        async with BinanceExchange(options, SystemClock()) as opened:
            yield opened


def recorded(now: float, body: str, status: int = 200) -> BinanceExchange:
    """Binance on a transport that answers everything with one body."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=body))
    return BinanceExchange(FAST, ManualClock(now), httpx.AsyncClient(transport=transport))


def routes(name: str) -> list[tuple[str, object]]:
    """The recorded answers of a file, each with the query it answered."""
    answers = json.loads(recorded_body(name, exchange="binance"))["GET"]
    return [(answer["queryString"], answer["data"]) for answer in answers]


async def test_tickers_of_all_symbols() -> None:
    """595 symbols of 2019: `lastPrice` and `volume` count, and what has no price is a failure of its own."""
    body = recorded_body("ticker24hr_all_20190822.vcr.yml.gz", "ticker/24hr", exchange="binance")
    listed = [one["symbol"] for one in json.loads(body)]

    sample = await recorded(1_566_445_080.0, body).sample(listed)

    assert len(listed) == 595
    assert set(listed) == {*sample.tickers, *sample.failures}
    assert len(sample.tickers) > 500
    assert all("not above 0" in error.words for error in sample.failures.values())
    one = next(entry for entry in json.loads(body) if entry["symbol"] == "BTCUSDT")
    assert sample.tickers["BTCUSDT"] == Ticker(float(one["lastPrice"]), float(one["volume"]))
    for symbol in listed:
        Metric.parse(f"BINANCE:{symbol}")


async def test_recorded_klines() -> None:
    """An hour of minutes: the open time, the close and the volume in base units count."""
    body = next(data for query, data in routes("gct_klines_routes.slice.json.gz") if "interval=1m" in query)
    rows = binance.read_klines(body, "BTCUSDT")
    exchange = recorded((rows[-1].slot + 1) * 60 + 10.0, json.dumps(body))

    candles = await exchange.candles("BTCUSDT", Window.ending(rows[-1].slot + 1, len(rows)))

    assert len(candles.slots) == len(rows) == 60
    assert isinstance(body, list)
    assert slot_time(rows[0].slot).timestamp() * 1000 == body[0][0]
    assert (candles.closes[0], candles.volumes[0]) == (float(body[0][4]), float(body[0][5]))


async def test_a_recorded_refusal() -> None:
    """An unknown symbol is refused in Binance's words."""
    body = recorded_body("error_-1121_invalid_symbol.slice.json", exchange="binance")

    sample = await recorded(1_700_000_000.0, body, 400).sample(["NOSUCHPAIR"])

    assert isinstance(sample.failures["NOSUCHPAIR"], ExchangeRefusedError)
    assert "Invalid symbol." in sample.failures["NOSUCHPAIR"].words
