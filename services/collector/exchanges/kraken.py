"""Kraken over REST v0: Ticker for all pairs at once, OHLC for minutes, Trades for minutes older than OHLC reaches.

Kraken renames pairs (XBTUSD is asked for, XXBTZUSD answered), so names are looked up in AssetPairs; what these names
and formats are is known in `kraken_format`, how calls are repeated and paced in `calling`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from services.collector.exchanges import kraken_format
from services.collector.exchanges.base import Candles, Exchange, ExchangeOptions, Sample, Ticker
from services.collector.exchanges.calling import JsonApi, about
from services.collector.exchanges.kraken_format import NAME, Answer, AssetPair, Trade
from services.collector.exchanges.kraken_rebuilding import Rebuilding
from services.core.clock import Clock
from services.core.errors import (
    ExchangeError,
    ExchangeMalformedError,
    ExchangeRefusedError,
    ExchangeUnavailableError,
)
from services.core.model import SLOT_SECONDS, Slot, Window

PUBLIC_URL = "https://api.kraken.com"

T = TypeVar("T")

_CHUNK = 50  # more pairs in one Ticker call have been answered with HTTP 520
_DAY_SECONDS = 86400.0
_CANDLES = 719  # OHLC answers 720 rows, the last of them open
_COARSE_STEPS = (5, 15, 60)  # minutes; each reaches 719 times as far back
_TRADES = 1000
_GAP_FILL_SECONDS = 1.5  # Kraken publishes no limit for public calls; what others found to be borne for hours


def build(options: ExchangeOptions, clock: Clock) -> Exchange:
    """Build the exchange with a client of its own."""
    return KrakenExchange(options, clock)


class KrakenExchange(Exchange):
    """Kraken; `client` is used as it is and left open, so that a test's transport or a shared pool fits."""

    name = NAME
    candle_reach = _CANDLES - 2  # a slot less than told, because a minute may end between question and answer
    coarse_minutes = _COARSE_STEPS[0]

    def __init__(self, options: ExchangeOptions, clock: Clock, client: httpx.AsyncClient | None = None) -> None:
        url = options.base_url or PUBLIC_URL
        self._api = JsonApi(NAME, url, options, clock, client=client, gap_fill_seconds=_GAP_FILL_SECONDS)
        self._clock = clock
        self._known: dict[str, AssetPair] = {}
        self._known_until = 0.0
        self._learning = asyncio.Lock()

    async def close(self) -> None:
        await self._api.close()

    async def sample(self, pairs: Sequence[str]) -> Sample:
        """Tickers in calls of up to 50 pairs; a call that one unknown pair spoils is made again pair by pair."""
        chunks = [pairs[i : i + _CHUNK] for i in range(0, len(pairs), _CHUNK)]
        # The names are looked up while the tickers are asked for by the names that Kraken most likely uses.
        remark, answers = await asyncio.gather(
            self._learn(pairs), asyncio.gather(*(self._tickers(chunk) for chunk in chunks))
        )
        tickers: dict[str, Ticker] = {}
        failures: dict[str, ExchangeError] = {}
        remarks = {remark: None} if remark else {}
        again: list[str] = []
        for chunk, answer in zip(chunks, answers, strict=True):
            if isinstance(answer, ExchangeError):
                if isinstance(answer, ExchangeRefusedError):
                    again += chunk
                failures |= dict.fromkeys(chunk, answer)
                continue
            remarks |= dict.fromkeys(answer.errors)
            missing = self._take(chunk, answer, tickers, failures)
            again += missing
        singles = await asyncio.gather(*(self._tickers([pair]) for pair in again))
        for pair, answer in zip(again, singles, strict=True):
            if isinstance(answer, ExchangeError):
                failures[pair] = answer
            else:
                failures.pop(pair, None)
                remarks |= dict.fromkeys(answer.errors)
                for absent in self._take([pair], answer, tickers, failures):
                    failures[absent] = ExchangeMalformedError(NAME, f"answered about {', '.join(answer.result)}")
        return Sample(tickers, {pair: about(pair, error) for pair, error in failures.items()}, tuple(remarks))

    async def candles(self, pair: str, window: Window) -> Candles:
        return (await self._ohlc(pair, 1, window.start)).within(window)

    async def coarse_closes(self, pair: str, window: Window) -> Mapping[Slot, float]:
        step = self._coarse_step(window.start)
        candles = await self._ohlc(pair, step, Slot(window.start - step))
        closes = ((Slot(start + step - 1), close) for start, close in candles.by_slot().items())
        return {end: close for end, close in closes if end in window}

    async def older_candles(self, pair: str, window: Window) -> AsyncIterator[Candles]:
        """Page through Trades from a coarse candle's start.

        OHLC shows a minute without trades as a candle of volume 0 at the close before it, so a rebuilt one is shown
        likewise, except next to coarse candles that are missing themselves: there Kraken was down, not quiet.
        """
        step = self._coarse_step(window.start)
        start, end = Slot(window.start - window.start % step), Slot(window.end + -window.end % step)
        coarse = await self._ohlc(pair, step, Slot(start - step))
        rebuilding = Rebuilding(start, step, coarse)
        cursor, newest_id, remark = str(start * SLOT_SECONDS * 10**9 - 1), -1, coarse.remark
        while rebuilding.next < end:
            (trades, last), errors = await self._trades(pair, cursor)
            remark = "; ".join(errors) or remark
            fresh = [trade for trade in trades if trade.trade_id is None or trade.trade_id > newest_id]
            newest_id = max([newest_id, *(trade.trade_id or 0 for trade in fresh)])
            rebuilding.add(fresh)
            ended = not fresh or last == cursor
            cursor = last
            piece = rebuilding.take(end if ended else min(end, fresh[-1].slot), remark).within(window)
            if len(piece.window):
                yield piece

    async def _trades(self, pair: str, cursor: str) -> tuple[tuple[list[Trade], str], tuple[str, ...]]:
        def read(answer: Answer) -> tuple[tuple[list[Trade], str], tuple[str, ...]]:
            return kraken_format.read_trades(answer.result, pair), answer.errors

        return await self._one(pair, "Trades", {"since": cursor, "count": str(_TRADES)}, read, slowly=True)

    def _coarse_step(self, start: Slot) -> int:
        """The shortest longer candle that still reaches back to this slot, and to the candle before it."""
        age = int(self._clock.now() // SLOT_SECONDS) - start
        return next((step for step in _COARSE_STEPS if age < (_CANDLES - 2) * step), _COARSE_STEPS[-1])

    async def _ohlc(self, pair: str, step: int, start: Slot) -> Candles:
        """Complete candles of `step` minutes from the one at `start`; their `slots` are the minutes they start at."""

        def read(answer: Answer) -> Candles:
            found, last = kraken_format.read_candles(answer.result, pair)
            end = Slot(last + step)
            reached = end - _CANDLES * step + step
            first = min([reached, *(candle.slot for candle in found[:1])])
            return Candles.of(
                Window(Slot(min(max(start, first), end)), end),
                [candle.slot for candle in found],
                [candle.close for candle in found],
                [candle.volume for candle in found],
                "; ".join(answer.errors),
            )

        since = start * SLOT_SECONDS - 1  # right whether or not the exchange includes the moment itself
        return await self._one(pair, "OHLC", {"interval": str(step), "since": str(since)}, read)

    async def _one(
        self, pair: str, call: str, query: Mapping[str, str], read: Callable[[Answer], T], *, slowly: bool = False
    ) -> T:
        """Make a call about one pair; where Kraken does not know our guess of its name, look the name up."""
        asked = self._altname(pair)
        try:
            try:
                return await self._get(call, {"pair": asked, **query}, read, slowly=slowly)
            except ExchangeRefusedError:
                await self._learn([pair])
                if self._altname(pair) == asked:
                    raise
                return await self._get(call, {"pair": self._altname(pair), **query}, read, slowly=slowly)
        except ExchangeError as error:
            raise about(pair, error) from error

    async def _get(
        self, call: str, query: Mapping[str, str], read: Callable[[Answer], T], *, slowly: bool = False
    ) -> T:
        def opened(body: Any) -> T:  # noqa: ANN401  JSON
            try:
                return read(kraken_format.read_answer(body))
            except ExchangeUnavailableError as error:
                moment = kraken_format.throttled_until(error.words)
                if moment is not None:
                    error.retry_after_seconds = max(0.0, moment - self._clock.now())
                raise

        return await self._api.get(f"/0/public/{call}", query, opened, slowly=slowly)

    async def _tickers(self, pairs: Sequence[str]) -> Answer | ExchangeError:
        try:
            return await self._get("Ticker", {"pair": ",".join(map(self._altname, pairs))}, lambda answer: answer)
        except ExchangeError as error:
            return error

    def _take(
        self,
        pairs: Sequence[str],
        answer: Answer,
        tickers: dict[str, Ticker],
        failures: dict[str, ExchangeError],
    ) -> list[str]:
        """Sort an answer's entries by our pairs, and return the pairs it says nothing about."""
        by_name = {self._altname(pair): pair for pair in pairs}
        by_key = {self._known[pair].key: pair for pair in pairs if pair in self._known}
        missing = set(pairs)
        for key, entry in answer.result.items():
            pair = by_key.get(key) or by_name.get(key) or by_name.get(kraken_format.altname_of_key(key))
            if pair is None:
                continue
            missing.discard(pair)
            try:
                tickers[pair] = kraken_format.read_ticker(entry, pair)
            except ExchangeError as error:
                failures[pair] = error
        return [pair for pair in pairs if pair in missing]

    def _altname(self, pair: str) -> str:
        known = self._known.get(pair)
        return known.altname if known else kraken_format.guessed_altname(pair)

    async def _learn(self, pairs: Sequence[str]) -> str:
        """Look up the names of these pairs once a day; return the exchange's words where that failed.

        Only these are asked for, as the whole list is a megabyte; one that is unknown costs that list.
        """
        async with self._learning:
            if self._clock.now() < self._known_until and all(pair in self._known for pair in pairs):
                return ""
            found: list[AssetPair] = []
            errors: dict[str, None] = {}
            try:
                for i in range(0, len(pairs), _CHUNK):
                    entries, beside = await self._asset_pairs(pairs[i : i + _CHUNK])
                    found += entries
                    errors |= dict.fromkeys(beside)
            except ExchangeError as error:
                return f"AssetPairs: {error.words}"
            self._known |= {entry.pair: entry for entry in found}
            self._known_until = self._clock.now() + _DAY_SECONDS
            return f"AssetPairs: {'; '.join(errors)}" if errors else ""

    async def _asset_pairs(self, pairs: Sequence[str]) -> tuple[list[AssetPair], tuple[str, ...]]:
        def read(answer: Answer) -> tuple[list[AssetPair], tuple[str, ...]]:
            return kraken_format.read_asset_pairs(answer.result), answer.errors

        try:
            return await self._get("AssetPairs", {"pair": ",".join(map(self._altname, pairs))}, read)
        except ExchangeRefusedError:
            return await self._get("AssetPairs", {}, read)
