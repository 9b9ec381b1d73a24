"""Minutes from trades are what Kraken's candles of them would have been."""

from __future__ import annotations

from decimal import Decimal

from services.collector.exchanges.base import Candles
from services.collector.exchanges.kraken_format import Trade
from services.collector.exchanges.kraken_rebuilding import Rebuilding
from services.core.model import Slot, Window

T = 1000  # a multiple of the longer candles' length
STEP = 5


def coarse(*starts: int, first: int = T - STEP, end: int = T + 4 * STEP) -> Candles:
    """Longer candles of those starts, all closing at 9, from an answer about [first, end)."""
    return Candles.of(Window(Slot(first), Slot(end)), starts, [9.0] * len(starts), [1.0] * len(starts))


def trades(*rows: tuple[int, float, str]) -> list[Trade]:
    """Trades of minutes counted from T."""
    return [Trade(Slot(T + minute), price, Decimal(volume), None) for minute, price, volume in rows]


def rows(candles: Candles) -> list[tuple[int, float, float]]:
    """Candles by minutes counted from T."""
    columns = (candles.slots - T).tolist(), candles.closes.tolist(), candles.volumes.tolist()
    return list(zip(*columns, strict=True))


ALL = (T - STEP, T, T + STEP, T + 2 * STEP, T + 3 * STEP)


def test_a_minute_closes_at_its_last_trade_and_sums_its_volumes_exactly() -> None:
    """0.1 + 0.2 is 0.3, as in the candle, not what doubles make of it."""
    rebuilding = Rebuilding(Slot(T), STEP, coarse(*ALL))
    rebuilding.add(trades((0, 5.0, "0.1"), (0, 6.0, "0.2")))

    assert [(0, 6.0, 0.3)] == rows(rebuilding.take(T + STEP))[:1]


def test_a_quiet_minute_keeps_the_close_before_it() -> None:
    """Also at the beginning, where the longer candle before tells the close."""
    rebuilding = Rebuilding(Slot(T), STEP, coarse(*ALL))
    rebuilding.add(trades((2, 5.0, "1")))

    assert [(0, 9.0, 0.0), (1, 9.0, 0.0), (2, 5.0, 1.0), (3, 5.0, 0.0), (4, 5.0, 0.0)] == rows(rebuilding.take(T + 7))


def test_without_a_close_before_quiet_minutes_are_left_out() -> None:
    """A price is never guessed."""
    rebuilding = Rebuilding(Slot(T), STEP, coarse(*ALL[1:], first=T))
    rebuilding.add(trades((2, 5.0, "1")))

    assert [2, 3, 4] == [minute for minute, _, _ in rows(rebuilding.take(T + STEP))]


def test_an_outage_is_not_taken_for_quiet() -> None:
    """A longer candle that is not listed, and the minutes up to the nearest trade on both sides, have no candles."""
    rebuilding = Rebuilding(Slot(T), STEP, coarse(T - STEP, T, T + 2 * STEP, T + 3 * STEP))
    rebuilding.add(trades((1, 5.0, "1"), (3 * STEP - 2, 6.0, "1"), (3 * STEP, 7.0, "1")))

    assert [0, 1, 13, 14, 15, 16, 17, 18, 19] == [minute for minute, _, _ in rows(rebuilding.take(T + 4 * STEP))]


def test_trades_in_a_longer_candle_that_is_not_listed_count() -> None:
    """What was traded was traded; only the quiet minutes around are left out where the neighbours are missing too."""
    rebuilding = Rebuilding(Slot(T), STEP, coarse(T - STEP, T + STEP, T + 2 * STEP, T + 3 * STEP))
    rebuilding.add(trades((2, 5.0, "1")))

    assert (2, 5.0, 1.0) in rows(rebuilding.take(T + STEP))


def test_only_whole_longer_candles_are_taken() -> None:
    """Whether its last minutes were quiet or down is known once a longer candle is over."""
    rebuilding = Rebuilding(Slot(T), STEP, coarse(*ALL))
    rebuilding.add(trades((0, 5.0, "1"), (7, 6.0, "1")))

    assert T + STEP == rebuilding.take(T + 7).window.end
    rebuilding.add(trades((8, 7.0, "2"), (10, 8.0, "1")))
    second = rows(rebuilding.take(T + 10))
    assert [(5, 5.0, 0.0), (6, 5.0, 0.0), (7, 6.0, 1.0), (8, 7.0, 2.0), (9, 7.0, 0.0)] == second


def test_nothing_to_take_is_an_empty_piece() -> None:
    """It moves nothing."""
    rebuilding = Rebuilding(Slot(T), STEP, coarse(*ALL))
    assert len(rebuilding.take(T + 3).window) == 0
    assert T == rebuilding.next
