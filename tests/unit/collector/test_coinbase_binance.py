"""How Coinbase and Binance are asked, and what of their answers is believed."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from services.collector.exchanges.base import ExchangeOptions, Ticker
from services.collector.exchanges.binance import BinanceExchange
from services.collector.exchanges.coinbase import CoinbaseExchange, guessed_product
from services.core.clock import ManualClock
from services.core.errors import ExchangeMalformedError, ExchangeRefusedError, ExchangeUnavailableError
from services.core.model import Slot, Window

NOW = 1_700_000_110.0
"""Fifty seconds into slot END."""
END = Slot(int(NOW // 60))
OPTIONS = ExchangeOptions(burst=1000, calls_per_second=1000, retries=1, retry_seconds=0.01)

Answer = Callable[[httpx.Request], httpx.Response]


def on(answer: Answer) -> tuple[httpx.AsyncClient, list[httpx.Request]]:
    """A client that is answered so, and what it asked."""
    asked: list[httpx.Request] = []

    def noted(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer(request)

    return httpx.AsyncClient(transport=httpx.MockTransport(noted)), asked


def constantly(body: object, status: int = 200, **headers: str) -> Answer:
    """Answer everything alike."""
    return lambda _: httpx.Response(status, text=body if isinstance(body, str) else json.dumps(body), headers=headers)


@pytest.mark.parametrize(
    ("pair", "product"),
    [
        ("BTCUSD", "BTC-USD"),
        ("BTCUSDT", "BTC-USDT"),
        ("USDTUSDC", "USDT-USDC"),
        ("ETHBTC", "ETH-BTC"),
        ("BTC", "BTC"),
        ("XYZABC", "XYZABC"),
    ],
)
def test_where_the_dash_stands_is_guessed(pair: str, product: str) -> None:
    """Before a currency that much is quoted in, the longest of them."""
    assert guessed_product(pair) == product


async def test_a_name_that_cannot_be_guessed_is_looked_up_once_a_day() -> None:
    """BTCJPY is BTC-JPY by the list of products; a pair that is not in it is refused, and asks for no list again."""
    listed = [
        {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD"},
        {"id": "BTC-JPY", "base_currency": "BTC", "quote_currency": "JPY"},
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/products":
            return httpx.Response(200, json=listed)
        if request.url.path == "/products/BTC-JPY/ticker":
            return httpx.Response(200, json={"price": "2", "volume": "3"})
        return httpx.Response(404, json={"message": "NotFound"})

    client, asked = on(answer)
    exchange = CoinbaseExchange(OPTIONS, ManualClock(NOW), client)

    first = await exchange.sample(["BTCJPY"])
    second = await exchange.sample(["BTCJPY", "NOSUCHPAIR"])

    assert first.tickers == second.tickers == {"BTCJPY": Ticker(2.0, 3.0)}
    assert isinstance(second.failures["NOSUCHPAIR"], ExchangeRefusedError)
    assert second.failures["NOSUCHPAIR"].words == 'HTTP 404 Not Found: {"message":"NotFound"}'
    assert [request.url.path for request in asked].count("/products") == 1


async def test_coinbase_fills_quiet_minutes_from_an_hour_before() -> None:
    """It lists no minute without trades: an hour before the window is asked for besides, and its last close stands."""
    rows = [[(END - 1) * 60, 1, 9, 2, 7.5, 0.25], [(END - 20) * 60, 1, 9, 2, 5, 3]]
    client, asked = on(constantly(rows))
    exchange = CoinbaseExchange(OPTIONS, ManualClock(NOW), client)

    candles = await exchange.candles("BTCUSD", Window(Slot(END - 4), Slot(END)))

    assert (candles.slots - END).tolist() == [-4, -3, -2, -1]
    assert candles.closes.tolist() == [5.0, 5.0, 5.0, 7.5]
    assert candles.volumes.tolist() == [0.0, 0.0, 0.0, 0.25]
    assert len(asked) == 1
    assert asked[0].url.params["start"] == "2023-11-14T21:11:00Z"
    assert asked[0].url.params["end"] == "2023-11-14T22:15:00Z"


@pytest.mark.parametrize(
    ("there", "end"),
    [("Tue, 14 Nov 2023 22:12:02 GMT", -4), ("Tue, 14 Nov 2023 22:13:03 GMT", -2), ("now", 0), ("", 0)],
)
async def test_the_exchanges_clock_says_what_has_ended(there: str, end: int) -> None:
    """Where ours is three minutes fast no quiet minute is made up of those to come; without a Date it is believed."""
    client, _ = on(constantly([[(END - 20) * 60, 1, 9, 2, 5, 3]], Date=there))
    exchange = CoinbaseExchange(OPTIONS, ManualClock(NOW), client)

    candles = await exchange.candles("BTCUSD", Window(Slot(END - 10), Slot(END)))

    assert candles.window.end - END == end
    assert (candles.slots - END).tolist() == list(range(-10, end))


async def test_one_unknown_symbol_costs_its_own_ticker() -> None:
    """Binance refuses a call for the sake of one; halving finds it in a few calls and keeps the others."""
    pairs = [f"A{number}USDT" for number in range(64)]

    def answer(request: httpx.Request) -> httpx.Response:
        symbols = json.loads(request.url.params["symbols"])
        if "A40USDT" in symbols:
            return httpx.Response(400, json={"code": -1121, "msg": "Invalid symbol."})
        return httpx.Response(200, json=[{"symbol": one, "lastPrice": "2.0", "volume": "3.0"} for one in symbols])

    client, asked = on(answer)
    sample = await BinanceExchange(OPTIONS, ManualClock(NOW), client).sample(pairs)

    assert set(sample.tickers) == {*pairs} - {"A40USDT"}
    assert list(sample.failures) == ["A40USDT"]
    assert len(asked) == 13
    assert " " not in asked[0].url.params["symbols"]


async def test_who_is_banned_waits_as_long_as_is_said() -> None:
    """418 comes to who went on after a 429: no call is made before Retry-After, not even about another pair."""
    client, asked = on(constantly({"code": -1003, "msg": "Way too many requests"}, 418, **{"Retry-After": "120"}))
    exchange = BinanceExchange(OPTIONS, ManualClock(NOW), client)

    for pair in ("BTCUSDT", "ETHUSDT"):
        with pytest.raises(ExchangeUnavailableError) as banned:
            await exchange.candles(pair, Window(Slot(END - 4), Slot(END)))
        assert "Way too many requests" in banned.value.words
        assert banned.value.pair == pair
    assert len(asked) == 1


KLINE = [(END - 1) * 60_000, "1", "1", "1", "5.0", "3.0", END * 60_000 - 1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"code": 0}, "an answer that is no list of klines: {'code': 0}"),
        ([KLINE[:6]], "a kline that is no row of times, prices and volume"),
        ([[KLINE[0] + 1, *KLINE[1:]]], "a kline that is no row of times"),
        ([[KLINE[0] + 1000, *KLINE[1:]]], "not the begin of a minute"),
        ([[*KLINE[:4], "0", *KLINE[5:]]], "a close is 0, not above 0"),
        ([[*KLINE[:4], None, *KLINE[5:]]], "a close is None, not a number"),
        ([[*KLINE[:5], "-1", *KLINE[6:]]], "a volume is -1, negative"),
        ([KLINE, KLINE], "a candle out of order"),
    ],
)
async def test_klines_that_are_none(body: object, words: str) -> None:
    """Nothing of an answer out of its format is used, and the error says what was wrong, and of which pair."""
    client, _ = on(constantly(body))

    with pytest.raises(ExchangeMalformedError, match="BINANCE:BTCUSDT: ") as wrong:
        await BinanceExchange(OPTIONS, ManualClock(NOW), client).candles("BTCUSDT", Window(Slot(END - 4), Slot(END)))

    assert words in wrong.value.words


CANDLE = [(END - 1) * 60, 1, 9, 2, 5, 3]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "x"}, "an answer that is no list of candles: {'message': 'x'}"),
        ([CANDLE[:5]], "a candle that is no row of time, prices and volume"),
        ([[str(CANDLE[0]), *CANDLE[1:]]], "not the begin of a minute"),
        ([[*CANDLE[:4], True, 3]], "a close is True, not a number"),
        ([[*CANDLE[:4], 0, 3]], "a close is 0, not above 0"),
        ([[*CANDLE[:5], "nan"]], "a volume is 'nan', not a number"),
        ([[CANDLE[0] - 60, *CANDLE[1:]], CANDLE], "a candle out of order"),
    ],
)
async def test_candles_that_are_none(body: object, words: str) -> None:
    """As with Binance's."""
    client, _ = on(constantly(body))

    with pytest.raises(ExchangeMalformedError, match="COINBASE:BTCUSD: ") as wrong:
        await CoinbaseExchange(OPTIONS, ManualClock(NOW), client).candles("BTCUSD", Window(Slot(END - 4), Slot(END)))

    assert words in wrong.value.words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([{"symbol": "BTCUSDT", "lastPrice": "0.00", "volume": "1"}], "lastPrice is 0, not above 0"),
        ([{"symbol": "BTCUSDT", "lastPrice": "1"}], "volume is None, not a number"),
        ([{"symbol": "ETHUSDT", "lastPrice": "1", "volume": "1"}], "answered without it"),
        ({"symbol": "BTCUSDT"}, "an answer that is no list of tickers: {'symbol': 'BTCUSDT'}"),
    ],
)
async def test_a_ticker_that_is_none_is_a_failure(body: object, words: str) -> None:
    """Of its pair alone."""
    client, _ = on(constantly(body))
    sample = await BinanceExchange(OPTIONS, ManualClock(NOW), client).sample(["BTCUSDT"])

    assert not sample.tickers
    assert isinstance(sample.failures["BTCUSDT"], ExchangeMalformedError)
    assert words in sample.failures["BTCUSDT"].words
