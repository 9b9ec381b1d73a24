"""What every exchange must be, as `services.collector.exchanges.base` says it.

An exchange's test file subclasses the suite and gives it an exchange at a moment. What an exchange cannot show is told
by its excuses; none is the default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from services.collector.exchanges.base import Candles, Exchange
from services.core.errors import ExchangeRefusedError
from services.core.model import DAY_SLOTS, Slot, Window


class ExchangeSuite:
    """The suite; fixtures `exchange`, `now` (seconds since the epoch) and `pairs` come from the subclass."""

    unknown_pair = "NOSUCHPAIR"
    excuses: frozenset[str] = frozenset()

    def excused(self, what: str) -> None:
        """Skip what this exchange's material has nothing of."""
        if what in self.excuses:
            pytest.skip(f"nothing recorded of {what}")

    async def test_a_sample_tells_every_pair(self, exchange: Exchange, pairs: Sequence[str]) -> None:
        """Each pair has a ticker with a price above 0 and a volume of 24 hours."""
        sample = await exchange.sample(pairs)

        assert set(pairs) == set(sample.tickers)
        assert {} == dict(sample.failures)
        assert () == sample.remarks
        for ticker in sample.tickers.values():
            assert 0 < ticker.price < math.inf
            assert 0 <= ticker.volume_24h < math.inf

    async def test_an_unknown_pair_costs_itself_only(self, exchange: Exchange, pairs: Sequence[str]) -> None:
        """In a sample it is a failure beside the others' tickers; asked for alone it is refused, and named."""
        sample = await exchange.sample([*pairs, self.unknown_pair])

        assert set(pairs) == set(sample.tickers)
        assert isinstance(sample.failures[self.unknown_pair], ExchangeRefusedError)
        with pytest.raises(ExchangeRefusedError) as refused:
            await exchange.candles(self.unknown_pair, Window(Slot(0), Slot(1)))
        assert refused.value.pair == self.unknown_pair
        assert refused.value.words

    async def test_candles_are_complete_minutes_in_order(
        self, exchange: Exchange, pairs: Sequence[str], now: float
    ) -> None:
        """They lie in the window they answer for, which lies in the one asked for and before the minute in progress."""
        window = Window(Slot(int(now // 60) - 60), Slot(int(now // 60) + 5))
        for pair in pairs:
            candles = await exchange.candles(pair, window)
            check(candles)
            assert window.start == candles.window.start
            assert int(now // 60) <= candles.window.end <= int(now // 60) + 1, "the minute may turn in between"
            assert len(candles.slots) > 0

    async def test_candles_reach_as_far_as_is_said(self, exchange: Exchange, pairs: Sequence[str], now: float) -> None:
        """A window older than the reach is answered from the reach on, and honestly so."""
        reach = exchange.candle_reach or 2 * DAY_SLOTS
        end = Slot(int(now // 60))
        candles = await exchange.candles(pairs[0], Window.ending(end, reach))
        assert Window.ending(end, reach) == candles.window
        if exchange.candle_reach is not None:
            older = await exchange.candles(pairs[0], Window(Slot(end - 3 * reach), Slot(end - 2 * reach)))
            assert len(older.window) == len(older.slots) == 0

    async def test_a_part_of_the_candles_is_the_same_candles(
        self, exchange: Exchange, pairs: Sequence[str], now: float
    ) -> None:
        """What a slot's candle is does not depend on the window it is asked for in."""
        end = int(now // 60)
        whole = await exchange.candles(pairs[0], Window.ending(end, 100))
        part = await exchange.candles(pairs[0], Window(Slot(end - 50), Slot(end - 20)))
        same(whole.within(part.window), part)

    async def test_coarse_closes_are_the_candles_closes(
        self, exchange: Exchange, pairs: Sequence[str], now: float
    ) -> None:
        """Of the slots they tell they tell exactly what candles do, and they tell one in `coarse_minutes`."""
        self.excused("longer candles")
        end = int(now // 60)
        window = Window(Slot(end - 600), Slot(end - 60))
        closes = await exchange.coarse_closes(pairs[0], window)
        candles = await exchange.candles(pairs[0], window)

        told = dict(zip(candles.slots.tolist(), candles.closes.tolist(), strict=True))
        assert {slot: told[slot] for slot in closes} == closes
        assert {slot for slot in window_slots(window) if (slot + 1) % exchange.coarse_minutes == 0} == set(closes)

    async def test_coarse_closes_reach_a_day_and_a_half(
        self, exchange: Exchange, pairs: Sequence[str], now: float
    ) -> None:
        """They tell the price a day before any slot that candles reach."""
        self.excused("longer candles")
        end = int(now // 60)
        closes = await exchange.coarse_closes(pairs[0], Window.ending(end - DAY_SLOTS, 700))
        assert 700 // exchange.coarse_minutes == len(closes)

    async def test_older_candles_come_in_pieces_that_cover_the_window(
        self, exchange: Exchange, pairs: Sequence[str], now: float
    ) -> None:
        """Piece follows piece from the window's start to its end, each in order."""
        self.excused("trades")
        window = Window.ending(int(now // 60) - 1000, 400)
        place = window.start
        async for piece in exchange.older_candles(pairs[0], window):
            check(piece)
            assert place == piece.window.start
            place = piece.window.end
        assert window.end == place

    async def test_older_candles_are_what_candles_would_have_been(
        self, exchange: Exchange, pairs: Sequence[str], now: float
    ) -> None:
        """Where both can be asked they agree in slots, closes and volumes."""
        self.excused("trades")
        window = Window.ending(int(now // 60) - 10, 301)
        for pair in pairs:
            pieces = [piece async for piece in exchange.older_candles(pair, window)]
            candles = await exchange.candles(pair, window)
            same(candles, joined(pieces))

    async def test_older_candles_go_on_after_a_piece(
        self, exchange: Exchange, pairs: Sequence[str], now: float
    ) -> None:
        """Who stops after a piece and asks for the rest gets the same as who goes on."""
        self.excused("trades")
        window = Window.ending(int(now // 60) - 1000, 400)
        whole = [piece async for piece in exchange.older_candles(pairs[0], window)]
        rest = Window(Slot(window.start + 123), window.end)
        again = [piece async for piece in exchange.older_candles(pairs[0], rest)]
        same(joined(whole).within(rest), joined(again))

    async def test_closing_twice_is_fine(self, exchange: Exchange) -> None:
        """As the interface says."""
        await exchange.close()
        await exchange.close()


def window_slots(window: Window) -> range:
    """The slots of a window."""
    return range(window.start, window.end)


def check(candles: Candles) -> None:
    """Fail unless the columns are as `Candles` says."""
    assert (np.diff(candles.slots) > 0).all()
    assert all(int(slot) in candles.window for slot in candles.slots)
    assert np.isfinite(candles.closes).all()
    assert (candles.closes > 0).all()
    assert np.isfinite(candles.volumes).all()
    assert (candles.volumes >= 0).all()


def same(expected: Candles, actual: Candles) -> None:
    """Fail unless both tell the same; volumes may differ in the last of eight decimals, where an exchange rounds."""
    assert expected.window == actual.window
    assert expected.slots.tolist() == actual.slots.tolist()
    assert expected.closes.tolist() == actual.closes.tolist()
    np.testing.assert_allclose(actual.volumes, expected.volumes, rtol=0, atol=1.01e-8)


def joined(pieces: Sequence[Candles]) -> Candles:
    """Consecutive pieces as one."""
    window = Window(pieces[0].window.start, pieces[-1].window.end)
    columns = [np.concatenate([getattr(p, name) for p in pieces]) for name in ("slots", "closes", "volumes")]
    return Candles(window, *columns)
