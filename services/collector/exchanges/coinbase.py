"""Coinbase Exchange over REST: a ticker a pair, candles for minutes of any age.

Coinbase puts a dash into pairs (BTC-USD). Formats: https://docs.cdp.coinbase.com/exchange/reference (products, ticker,
candles); a ticker's numbers come as decimal strings, a candle's as numbers, errors with HTTP 4xx as `{"message": "…"}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from services.collector.exchanges.base import ExchangeOptions, Sample, Ticker
from services.collector.exchanges.calling import about
from services.collector.exchanges.paging import PagedExchange, Row, in_order
from services.collector.exchanges.reading import Numbers
from services.core.clock import Clock
from services.core.errors import ExchangeError, ExchangeRefusedError
from services.core.model import Slot, Window, slot_time

NAME = "COINBASE"

T = TypeVar("T")

_NUMBERS = Numbers(NAME)
_DAY_SECONDS = 86400.0
_QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "BTC", "ETH")


def build(options: ExchangeOptions, clock: Clock) -> CoinbaseExchange:
    """Build the exchange with a client of its own."""
    return CoinbaseExchange(options, clock)


class CoinbaseExchange(PagedExchange):
    """Coinbase.

    Its candles leave out minutes without trades, so that the close before stands for those of an hour; a pair that is
    quiet for longer has no candles, whether nobody trades it or nobody can.
    """

    name = NAME
    public_url = "https://api.exchange.coinbase.com"
    calls_per_second = 8.0  # an address has 10, and 15 at once
    gap_fill_seconds = 0.25
    page_slots = 300
    quiet_slots = 60

    def __init__(self, options: ExchangeOptions, clock: Clock, client: httpx.AsyncClient | None = None) -> None:
        super().__init__(options, clock, client)
        self._products: Mapping[str, str] = {}
        self._known_until = 0.0
        self._learning = asyncio.Lock()

    async def sample(self, pairs: Sequence[str]) -> Sample:
        """A call a pair, as there is none for several."""
        tickers: dict[str, Ticker] = {}
        failures: dict[str, ExchangeError] = {}

        async def add(pair: str) -> None:
            try:
                tickers[pair] = await self._one(pair, "ticker", {}, lambda body: read_ticker(body, pair))
            except ExchangeError as error:
                failures[pair] = error

        await asyncio.gather(*map(add, pairs))
        return Sample(tickers, failures)

    async def page(self, pair: str, window: Window, *, slowly: bool) -> list[Row]:
        # Both ends are within what is answered, so that the last is the begin of the last minute.
        query = {"granularity": "60", "start": _moment(window.start), "end": _moment(Slot(window.end - 1))}

        def read(body: Any) -> list[Row]:  # noqa: ANN401  JSON
            return in_order(read_candles(body, pair), window, _NUMBERS, pair)

        return await self._one(pair, "candles", query, read, slowly=slowly)

    async def _one(
        self, pair: str, call: str, query: Mapping[str, str], read: Callable[[Any], T], *, slowly: bool = False
    ) -> T:
        """Make a call about one pair; where Coinbase does not know our guess of its name, look the name up."""
        asked = self._product(pair)
        try:
            try:
                return await self._api.get(f"/products/{asked}/{call}", query, read, slowly=slowly)
            except ExchangeRefusedError:
                await self._learn()
                if self._product(pair) == asked:
                    raise
                return await self._api.get(f"/products/{self._product(pair)}/{call}", query, read, slowly=slowly)
        except ExchangeError as error:
            raise about(pair, error) from error

    def _product(self, pair: str) -> str:
        return self._products.get(pair) or guessed_product(pair)

    async def _learn(self) -> None:
        """Look up the names of all products, once a day at most."""
        async with self._learning:
            if self._clock.now() >= self._known_until:
                self._products = await self._api.get("/products", {}, read_products)
                self._known_until = self._clock.now() + _DAY_SECONDS


def guessed_product(pair: str) -> str:
    """The name that Coinbase most likely has for our pair: BTCUSD is BTC-USD."""
    quote = next((quote for quote in _QUOTES if pair.endswith(quote) and pair != quote), "")
    return f"{pair.removesuffix(quote)}-{quote}" if quote else pair


def read_products(body: object) -> dict[str, str]:
    """Read the products' names, by our pairs."""
    if not isinstance(body, list):
        raise _NUMBERS.malformed(f"an answer that is no list of products: {body!r:.120}")
    products = {}
    for one in body:
        legs = [one.get(leg) for leg in ("id", "base_currency", "quote_currency")] if isinstance(one, dict) else []
        if not legs or not all(isinstance(leg, str) for leg in legs):
            raise _NUMBERS.malformed(f"a product without id, base and quote: {one!r:.100}")
        products[f"{legs[1]}{legs[2]}"] = str(legs[0])
    return products


def read_ticker(body: object, pair: str) -> Ticker:
    """Read a ticker: `price`, of the last trade, and `volume`, of the last 24 hours in base units."""
    if not isinstance(body, dict):
        raise _NUMBERS.malformed(f"a ticker that is no object: {body!r:.80}", pair)
    return Ticker(_NUMBERS.price(body.get("price"), "price", pair), _NUMBERS.volume(body.get("volume"), "volume", pair))


def read_candles(body: object, pair: str) -> list[Row]:
    """Read candles, in ascending order: rows of `[time, low, high, open, close, volume]`, the newest first."""
    if not isinstance(body, list):
        raise _NUMBERS.malformed(f"an answer that is no list of candles: {body!r:.120}", pair)
    rows = []
    for candle in reversed(body):
        if not isinstance(candle, list) or len(candle) < 6:  # noqa: PLR2004  the documented row
            raise _NUMBERS.malformed(f"a candle that is no row of time, prices and volume: {candle!r:.100}", pair)
        slot = _NUMBERS.slot(candle[0], pair)
        rows.append(Row(slot, _NUMBERS.price(candle[4], "a close", pair), _NUMBERS.volume(candle[5], "a volume", pair)))
    return rows


def _moment(slot: Slot) -> str:
    return f"{slot_time(slot):%Y-%m-%dT%H:%M:%SZ}"
