"""Kraken's REST v0 bodies and names, as values. Pure: no calls, no clock.

Formats: https://docs.kraken.com/api/docs/rest-api/ (Ticker, OHLC, Trades, AssetPairs). Numbers come as decimal strings;
errors come with HTTP 200 in `error`, beside or instead of `result`. Every reader raises ExchangeMalformedError for what
is not in the format, and nothing of such an answer is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from services.collector.exchanges.base import Ticker
from services.collector.exchanges.reading import Numbers
from services.core.errors import ExchangeError, ExchangeRefusedError, ExchangeUnavailableError
from services.core.model import Slot, slot_time

NAME = "KRAKEN"

_NUMBERS = Numbers(NAME)

# Kraken's assets whose name differs from everybody else's: https://support.kraken.com/articles/360001206766
_OURS = {"XBT": "BTC", "XDG": "DOGE"}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}

_LOCKOUT_SECONDS = 900.0
_RATE_LIMIT_SECONDS = 2.0
_LATER = ("EService:", "EGeneral:Internal error", "EGeneral:Too many requests", "EAPI:Rate limit", "EGeneral:Temporary")


@dataclass(frozen=True, slots=True)
class Answer:
    """A usable `result`, and the errors that came beside it."""

    result: Mapping[str, Any]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candle:
    """A row of OHLC: the slot it starts at, its close in the quote currency, its volume in base units."""

    slot: Slot
    close: float
    volume: float
    count: int


@dataclass(frozen=True, slots=True)
class Trade:
    """A row of Trades; decimals, because the sum of a minute's volumes must be exactly its candle's."""

    slot: Slot
    price: float
    volume: Decimal
    trade_id: int | None


@dataclass(frozen=True, slots=True)
class AssetPair:
    """How Kraken names a pair: the key of its answers, and the name it likes to be asked by."""

    key: str
    altname: str
    pair: str


def guessed_altname(pair: str) -> str:
    """The name that Kraken most likely takes for our pair: BTCUSD is XBTUSD, ETHBTC is ETHXBT."""
    return _renamed(pair, _THEIRS)


def altname_of_key(key: str) -> str:
    """The altname of an answer's key: XXBTZUSD is XBTUSD, SOLUSD stays. True of the oldest assets by construction."""
    old = re.fullmatch(r"[XZ]([A-Z0-9]{3})[XZ]([A-Z0-9]{3})", key)
    return "".join(old.groups()) if old else key


def read_answer(body: object) -> Answer:
    """Open the envelope; raises what the errors say where there is no result to use."""
    if not isinstance(body, dict) or not isinstance(body.get("error"), list):
        raise _NUMBERS.malformed(f"an answer without `error` and `result`: {body!r:.120}")
    errors = tuple(str(error) for error in body["error"])
    result = body.get("result")
    if isinstance(result, dict) and (result or not errors):
        return Answer(result, tuple(error for error in errors if not error.startswith("W")))
    if errors:
        raise _failure(errors)
    raise _NUMBERS.malformed(f"an answer without a result: {body!r:.120}")


def read_ticker(entry: object, pair: str) -> Ticker:
    """Read one pair's ticker: `c[0]`, the last trade's price, and `v[1]`, the volume of 24 hours (`v[0]`: of today)."""
    if not isinstance(entry, dict):
        raise _NUMBERS.malformed(f"a ticker that is no object: {entry!r:.80}", pair)
    return Ticker(
        _NUMBERS.price(_at(entry.get("c"), 0), "the last price c[0]", pair),
        _NUMBERS.volume(_at(entry.get("v"), 1), "the 24 h volume v[1]", pair),
    )


def read_candles(result: Mapping[str, Any], pair: str) -> tuple[list[Candle], Slot]:
    """Read OHLC rows in ascending order and the start of the newest complete candle, `last`.

    Rows are `[time, open, high, low, close, vwap, volume, count]`; newer than `last` is the open one, left out.
    """
    rows, last = _rows_and_last(result, pair)
    candles: list[Candle] = []
    for row in rows:
        if not isinstance(row, list) or len(row) < 8 or type(row[0]) is not int or type(row[7]) is not int:  # noqa: PLR2004  the documented row
            raise _NUMBERS.malformed(f"a candle that is no row of time, prices, volume and count: {row!r:.100}", pair)
        if row[0] % 60 or (candles and row[0] <= candles[-1].slot * 60):
            raise _NUMBERS.malformed(f"a candle out of order, at {row[0]}", pair)
        slot = Slot(row[0] // 60)
        at = f"of the candle at {slot_time(slot):%H:%M}"
        close = _NUMBERS.price(row[4], f"the close {at}", pair)
        volume = _NUMBERS.volume(row[6], f"the volume {at}", pair)
        candles.append(Candle(slot, close, volume, row[7]))
    if type(last) is not int or last <= 0 or last % 60:
        raise _NUMBERS.malformed(f"`last` is {last!r:.40}, not the time of a minute in seconds", pair)
    newest = Slot(last // 60)
    return [candle for candle in candles if candle.slot <= newest], newest


def read_trades(result: Mapping[str, Any], pair: str) -> tuple[list[Trade], str]:
    """Read Trades rows in ascending order and the cursor `last`, nanoseconds as a string.

    Rows are `[price, volume, time, side, type, misc, trade_id]`; the oldest recordings have no trade_id.
    """
    rows, last = _rows_and_last(result, pair)
    trades: list[Trade] = []
    for row in rows:
        if not isinstance(row, list) or len(row) < 6:  # noqa: PLR2004  the documented row
            raise _NUMBERS.malformed(f"a trade that is no row of price, volume and time: {row!r:.100}", pair)
        price = _NUMBERS.price(row[0], "a trade's price", pair)
        _NUMBERS.volume(row[1], "a trade's volume", pair)
        slot = Slot(int(_decimal(row[2], "a trade's time", pair) // 60))
        if trades and slot < trades[-1].slot:
            raise _NUMBERS.malformed(f"a trade out of order, at {row[2]}", pair)
        identity = row[6] if len(row) > 6 and type(row[6]) is int else None  # noqa: PLR2004  the documented row
        trades.append(Trade(slot, price, _decimal(row[1], "a trade's volume", pair), identity))
    if not isinstance(last, str) or not last.isdecimal():
        raise _NUMBERS.malformed(f"`last` is {last!r:.40}, not a string of nanoseconds", pair)
    return trades, last


def read_asset_pairs(result: Mapping[str, Any]) -> list[AssetPair]:
    """Read the names of pairs; `.d` entries are dark pools of pairs that are listed as well."""
    found = []
    for key, entry in result.items():
        if key.endswith(".d"):
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("altname"), str):
            raise _NUMBERS.malformed(f"the asset pair {key} has no altname")
        legs = str(entry.get("wsname") or "").split("/")
        pair = "".join(_OURS.get(leg, leg) for leg in legs) if len(legs) > 1 else _renamed(entry["altname"], _OURS)
        found.append(AssetPair(key, entry["altname"], pair))
    return found


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """Rename both legs of a pair that is written without a separator."""
    for old, new in names.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
        elif name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def _rows_and_last(result: Mapping[str, Any], pair: str) -> tuple[Sequence[Any], Any]:
    keys = [key for key in result if key != "last"]
    if len(keys) != 1 or "last" not in result or not isinstance(result[keys[0]], list):
        raise _NUMBERS.malformed(
            f"an answer about {', '.join(keys) or 'no pair'}, not about one pair with rows and `last`", pair
        )
    return result[keys[0]], result["last"]


def _failure(errors: Sequence[str]) -> ExchangeError:
    words = "; ".join(errors)
    if not any(error.startswith(_LATER) for error in errors):
        return ExchangeRefusedError(NAME, words)
    after = None
    if "Temporary lockout" in words:
        after = _LOCKOUT_SECONDS
    elif "Rate limit" in words or "Too many requests" in words:
        after = _RATE_LIMIT_SECONDS
    return ExchangeUnavailableError(NAME, words, retry_after_seconds=after)


def throttled_until(words: str) -> float | None:
    """The moment (seconds since the epoch) that `EService:Throttled: <time>` names, or None."""
    found = re.search(r"EService:Throttled: ?(\d{9,11})\b", words)
    return float(found.group(1)) if found else None


def _at(value: object, index: int) -> object:
    return value[index] if isinstance(value, list) and len(value) > index else None


def _decimal(value: object, what: str, pair: str) -> Decimal:
    try:
        number = Decimal(value) if isinstance(value, str | int) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise _NUMBERS.malformed(f"{what} is {value!r:.40}, not a number", pair)
    return number
