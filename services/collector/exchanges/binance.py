"""Binance's spot market over REST v3: ticker/24hr for all pairs at once, klines for minutes of any age.

Binance names pairs as we do. It quotes in USDT and the like, not in US dollars: BTCUSDT is another metric than another
exchange's BTCUSD. Formats: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints;
numbers come as decimal strings, times in milliseconds, errors with HTTP 4xx as `{"code": -1121, "msg": "…"}`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from services.collector.exchanges.base import ExchangeOptions, Sample, Ticker
from services.collector.exchanges.calling import about
from services.collector.exchanges.paging import PagedExchange, Row, in_order
from services.collector.exchanges.reading import Numbers
from services.core.clock import Clock
from services.core.errors import ExchangeError, ExchangeRefusedError
from services.core.model import SLOT_SECONDS, Window

NAME = "BINANCE"

_NUMBERS = Numbers(NAME)
_CHUNK = 100  # symbols of one call: more cost the weight of all that there are
_SLOT_MILLISECONDS = SLOT_SECONDS * 1000


def build(options: ExchangeOptions, clock: Clock) -> BinanceExchange:
    """Build the exchange with a client of its own."""
    return BinanceExchange(options, clock)


class BinanceExchange(PagedExchange):
    """Binance.

    Its klines list minutes without trades, at the close before them; one that is not listed was an outage.
    """

    name = NAME
    public_url = "https://api.binance.com"
    calls_per_second = 20.0  # of klines, each of weight 2; an address has 6,000 a minute
    gap_fill_seconds = 0.2
    page_slots = 1000

    async def sample(self, pairs: Sequence[str]) -> Sample:
        """Tickers in calls of up to 100 pairs; one that an unknown pair spoils is made again in halves."""
        tickers: dict[str, Ticker] = {}
        failures: dict[str, ExchangeError] = {}
        chunks = [pairs[i : i + _CHUNK] for i in range(0, len(pairs), _CHUNK)]
        await asyncio.gather(*(self._sample(chunk, tickers, failures) for chunk in chunks))
        return Sample(tickers, failures)

    async def page(self, pair: str, window: Window, *, slowly: bool) -> list[Row]:
        def read(body: Any) -> list[Row]:  # noqa: ANN401  JSON
            return in_order(read_klines(body, pair), window, _NUMBERS, pair)

        query = {
            "symbol": pair,
            "interval": "1m",
            "startTime": str(window.start * _SLOT_MILLISECONDS),
            "endTime": str(window.end * _SLOT_MILLISECONDS - 1),
            "limit": str(self.page_slots),
        }
        try:
            return await self._api.get("/api/v3/klines", query, read, slowly=slowly)
        except ExchangeError as error:
            raise about(pair, error) from error

    async def _sample(
        self, pairs: Sequence[str], tickers: dict[str, Ticker], failures: dict[str, ExchangeError]
    ) -> None:
        """Add each pair's ticker or failure."""
        symbols = json.dumps(list(pairs), separators=(",", ":"))  # a blank is refused
        try:
            entries = await self._api.get("/api/v3/ticker/24hr", {"symbols": symbols}, read_tickers)
        except ExchangeRefusedError as error:
            if len(pairs) == 1:
                failures[pairs[0]] = about(pairs[0], error)
                return
            half = len(pairs) // 2
            await asyncio.gather(*(self._sample(part, tickers, failures) for part in (pairs[:half], pairs[half:])))
            return
        except ExchangeError as error:
            failures.update({pair: about(pair, error) for pair in pairs})
            return
        for pair in pairs:
            try:
                tickers[pair] = read_ticker(entries.get(pair), pair)
            except ExchangeError as error:
                failures[pair] = error


def read_tickers(body: object) -> dict[str, Any]:
    """Read the list of ticker/24hr, by symbol."""
    if not isinstance(body, list) or not all(isinstance(one, dict) and "symbol" in one for one in body):
        raise _NUMBERS.malformed(f"an answer that is no list of tickers: {body!r:.120}")
    return {str(one["symbol"]): one for one in body}


def read_ticker(entry: object, pair: str) -> Ticker:
    """Read one ticker: `lastPrice`, and `volume`, which is of the last 24 hours in base units."""
    if not isinstance(entry, dict):
        raise _NUMBERS.malformed("answered without it", pair)
    return Ticker(
        _NUMBERS.price(entry.get("lastPrice"), "lastPrice", pair),
        _NUMBERS.volume(entry.get("volume"), "volume", pair),
    )


def read_klines(body: object, pair: str) -> list[Row]:
    """Read klines, ascending: rows of `[open time, open, high, low, close, volume, close time, …]`."""
    if not isinstance(body, list):
        raise _NUMBERS.malformed(f"an answer that is no list of klines: {body!r:.120}", pair)
    rows = []
    for kline in body:
        if not isinstance(kline, list) or len(kline) < 7 or type(kline[0]) is not int or kline[0] % 1000:  # noqa: PLR2004  the documented row
            raise _NUMBERS.malformed(f"a kline that is no row of times, prices and volume: {kline!r:.100}", pair)
        slot = _NUMBERS.slot(kline[0] // 1000, pair)
        rows.append(Row(slot, _NUMBERS.price(kline[4], "a close", pair), _NUMBERS.volume(kline[5], "a volume", pair)))
    return rows
