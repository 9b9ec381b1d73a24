"""What of Kraken's answers is refused, and how its names become ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.collector.exchanges import kraken_format
from services.collector.exchanges.base import Ticker
from services.core.errors import ExchangeMalformedError, ExchangeRefusedError, ExchangeUnavailableError

PAIR = "BTCUSD"
TICKER: dict[str, Any] = {"c": ["64000.1", "0.5"], "v": ["12.5", "900.25"], "o": "1.0"}
CANDLE = [1_700_000_040, "1.0", "3.0", "0.5", "2.0", "1.5", "10.00000000", 4]
TRADE = ["2.0", "0.5", "1700000040.1234567", "b", "l", "", 77]


def test_a_ticker_is_its_last_price_and_the_volume_of_24_hours() -> None:
    """`v[0]` and `o` are of today and mean nothing here."""
    assert Ticker(64000.1, 900.25) == kraken_format.read_ticker(TICKER, PAIR)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c": [None, "1"]}, "c[0] is None, not a number"),
        ({"c": ["NaN", "1"]}, "c[0] is 'NaN', not a number"),
        ({"c": ["Infinity", "1"]}, "c[0] is 'Infinity', not a number"),
        ({"c": ["1e999", "1"]}, "c[0] is '1e999', not a number"),
        ({"c": ["-5", "1"]}, "c[0] is -5, not above 0"),
        ({"c": ["0", "1"]}, "c[0] is 0, not above 0"),
        ({"c": []}, "c[0] is None"),
        ({"c": "64000"}, "c[0] is None"),
        ({"c": [["1"]]}, "c[0] is ['1'], not a number"),
        ({"v": ["1"]}, "v[1] is None, not a number"),
        ({"v": ["1", "-1"]}, "v[1] is -1, negative"),
        ({"v": ["1", "nan"]}, "v[1] is 'nan', not a number"),
    ],
)
def test_a_ticker_with_a_value_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    """The error names the field and what stood there."""
    with pytest.raises(ExchangeMalformedError) as refused:
        kraken_format.read_ticker(TICKER | change, PAIR)
    assert words in refused.value.words
    assert refused.value.pair == PAIR


def candles_of(*rows: object, last: object = 1_700_000_100) -> dict[str, Any]:
    """A result of OHLC."""
    return {"XXBTZUSD": list(rows), "last": last}


def test_candles_newer_than_last_are_open_and_left_out() -> None:
    """`last` is the newest complete one; whether the open one is listed does not matter."""
    rows = [[1_700_000_040 + 60 * i, *CANDLE[1:]] for i in range(3)]
    candles, last = kraken_format.read_candles(candles_of(*rows), PAIR)

    assert [1_700_000_040 // 60, 1_700_000_100 // 60] == [candle.slot for candle in candles]
    assert candles[-1].slot == last


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (candles_of([*CANDLE[:4], "NaN", *CANDLE[5:]]), "the close of the candle at 22:14 is 'NaN', not a number"),
        (candles_of([*CANDLE[:4], None, *CANDLE[5:]]), "is None, not a number"),
        (candles_of([*CANDLE[:4], "-2.0", *CANDLE[5:]]), "is -2, not above 0"),
        (candles_of([*CANDLE[:6], "-1", 4]), "the volume of the candle at 22:14 is -1, negative"),
        (candles_of(CANDLE[:7]), "a candle that is no row"),
        (candles_of("x"), "a candle that is no row"),
        (candles_of([1_700_000_041, *CANDLE[1:]]), "a candle out of order, at 1700000041"),
        (candles_of(CANDLE, CANDLE), "a candle out of order"),
        (candles_of(CANDLE, last="x"), "`last` is 'x'"),
        ({"XXBTZUSD": [CANDLE]}, "not about one pair with rows and `last`"),
        ({"A": [], "B": [], "last": 0}, "an answer about A, B"),
        ({"A": {}, "last": 0}, "an answer about A"),
    ],
)
def test_one_wrong_candle_spoils_the_answer(result: dict[str, Any], words: str) -> None:
    """Nothing of an answer that is not in its format is used."""
    with pytest.raises(ExchangeMalformedError) as refused:
        kraken_format.read_candles(result, PAIR)
    assert words in refused.value.words


def test_trades_keep_every_digit() -> None:
    """The cursor stays a string, the volume a decimal, and the minute is that of the exact time."""
    late = ["2.5", "0.1", "1700000099.9999999999", "s", "m", "", 78]
    trades, last = kraken_format.read_trades({"XXBTZUSD": [TRADE, late], "last": "1700000099999999999"}, PAIR)

    assert last == "1700000099999999999"
    assert [1_700_000_040 // 60] * 2 == [trade.slot for trade in trades]
    assert "0.6" == str(trades[0].volume + trades[1].volume)


@pytest.mark.parametrize(
    ("rows", "last", "words"),
    [
        ([["nan", *TRADE[1:]]], "1", "a trade's price is 'nan'"),
        ([["-1", *TRADE[1:]]], "1", "a trade's price is -1, not above 0"),
        ([["1", "-1", *TRADE[2:]]], "1", "a trade's volume is -1, negative"),
        ([["1", "1", "soon", "b", "l", ""]], "1", "a trade's time is 'soon'"),
        ([["1", "1"]], "1", "a trade that is no row"),
        ([TRADE, ["1", "1", "1699999000.0", "b", "l", "", 78]], "1", "a trade out of order"),
        ([TRADE], 1_700_000_040, "not a string of nanoseconds"),
    ],
)
def test_one_wrong_trade_spoils_the_page(rows: list[Any], last: object, words: str) -> None:
    """As with candles; a cursor that is a number would have lost digits."""
    with pytest.raises(ExchangeMalformedError) as refused:
        kraken_format.read_trades({"XXBTZUSD": rows, "last": last}, PAIR)
    assert words in refused.value.words


def test_errors_beside_a_result_leave_it_usable() -> None:
    """Good pairs are kept and the words are handed on; warnings are not errors."""
    body = {"error": ["EQuery:Unknown asset pair", "WGeneral:Deprecated"], "result": {"XXBTZUSD": TICKER}}
    answer = kraken_format.read_answer(body)

    assert {"XXBTZUSD"} == answer.result.keys()
    assert ("EQuery:Unknown asset pair",) == answer.errors


@pytest.mark.parametrize("body", [None, [], "x", {}, {"error": "x"}, {"error": []}, {"error": [], "result": []}])
def test_a_body_without_the_envelope_is_refused(body: object) -> None:
    """It is not from Kraken's API."""
    with pytest.raises(ExchangeMalformedError, match="an answer without"):
        kraken_format.read_answer(body)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("EGeneral:Temporary lockout", ExchangeUnavailableError),
        ("EService:Throttled: 1700000000", ExchangeUnavailableError),
        ("EService:Market in cancel_only mode", ExchangeUnavailableError),
        ("EGeneral:Internal error", ExchangeUnavailableError),
        ("EGeneral:Too many requests", ExchangeUnavailableError),
        ("EGeneral:Permission denied", ExchangeRefusedError),
    ],
)
def test_errors_are_told_apart_by_what_helps(
    words: str, kind: type[ExchangeUnavailableError | ExchangeRefusedError]
) -> None:
    """Waiting helps against the first kind, nothing against the second."""
    with pytest.raises(kind):
        kraken_format.read_answer({"error": [words]})


def test_a_lockout_is_waited_out() -> None:
    """Fifteen minutes, and a throttle until the moment it names."""
    with pytest.raises(ExchangeUnavailableError) as locked:
        kraken_format.read_answer({"error": ["EGeneral:Temporary lockout"]})
    assert 900 == locked.value.retry_after_seconds
    assert 1_700_000_000.0 == kraken_format.throttled_until("EService:Throttled: 1700000000")
    assert kraken_format.throttled_until("EService:Unavailable") is None


@pytest.mark.parametrize(
    ("pair", "altname"),
    [
        ("BTCUSD", "XBTUSD"),
        ("ETHBTC", "ETHXBT"),
        ("DOGEBTC", "XDGXBT"),
        ("SOLUSD", "SOLUSD"),
        ("WBTCUSD", "WBTCUSD"),
        ("BTCUSDT", "XBTUSDT"),
    ],
)
def test_our_pairs_are_asked_for_by_kraken_s_names(pair: str, altname: str) -> None:
    """BTC is XBT and DOGE is XDG there, on either side; what merely contains the letters is not renamed."""
    assert altname == kraken_format.guessed_altname(pair)


def test_asset_pairs_without_wsname_are_named_by_their_altname() -> None:
    """Recordings of 2017 have none; dark pools are left out."""
    text = '{"XETHXXBT": {"altname": "ETHXBT"}, "XETHXXBT.d": {"altname": "ETHXBT.d"}}'
    assert [kraken_format.AssetPair("XETHXXBT", "ETHXBT", "ETHBTC")] == kraken_format.read_asset_pairs(json.loads(text))
