"""Candles by the page: which are complete, what stands for quiet minutes, and how many calls a window takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from services.collector.exchanges.base import ExchangeOptions, Sample
from services.collector.exchanges.paging import REACH_SLOTS, PagedExchange, Row, in_order
from services.collector.exchanges.reading import Numbers
from services.core.clock import ManualClock
from services.core.errors import ExchangeMalformedError
from services.core.model import Slot, Window

END = Slot(28_000_000)
"""The slot in progress."""


class Listed(PagedExchange):
    """An exchange that lists these closes, each with a volume of 1, ten a page."""

    name = "X"
    public_url = "http://x.test"
    calls_per_second = gap_fill_seconds = 1.0
    page_slots = 10

    def __init__(self, closes: Mapping[int, float], *, second: float = 1.0, quiet_slots: int = 0) -> None:
        super().__init__(ExchangeOptions(), ManualClock(END * 60 + second))
        self.quiet_slots = quiet_slots
        self.closes = closes
        self.asked: list[tuple[Window, bool]] = []

    async def sample(self, pairs: Sequence[str]) -> Sample:
        raise NotImplementedError

    async def page(self, pair: str, window: Window, *, slowly: bool) -> list[Row]:
        assert len(window) <= self.page_slots
        self.asked.append((window, slowly))
        return [Row(Slot(slot), close, 1.0) for slot, close in sorted(self.closes.items()) if slot in window]


async def told(exchange: Listed, window: Window) -> tuple[int, dict[int, tuple[float, float]]]:
    """The end of what is answered for, and by slot its close and volume; slots are counted from END."""
    candles = await exchange.candles("A", window)
    columns = zip(candles.slots.tolist(), candles.closes.tolist(), candles.volumes.tolist(), strict=True)
    return candles.window.end - END, {slot - END: (close, volume) for slot, close, volume in columns}


def minutes(*closes: float, end: int) -> dict[int, float]:
    """Closes of consecutive slots, the last of them just before `end`."""
    return {end - len(closes) + i: close for i, close in enumerate(closes)}


@pytest.mark.parametrize(
    ("second", "listed", "end"),
    [
        (1.0, minutes(5, 6, end=END), -1),  # the minute has just ended, and might still change
        (1.0, minutes(5, 6, 7, end=END + 1), 0),  # the one in progress is listed
        (3.0, minutes(5, 6, end=END), 0),  # so long after its end nothing comes
        (3.0, minutes(5, end=END - 1), 0),  # nor anything that was not there
        (1.0, {}, -1),
    ],
)
async def test_a_candle_is_complete_or_left_out(second: float, listed: dict[int, float], end: int) -> None:
    """A minute that may still change is not answered for; the one in progress is never told."""
    answered, candles = await told(Listed(listed, second=second), Window(Slot(END - 5), Slot(END + 5)))

    assert answered == end
    assert candles == {slot - END: (close, 1.0) for slot, close in listed.items() if slot - END < end}


async def test_quiet_minutes_keep_the_close_before_them() -> None:
    """For so many minutes as are said, of a volume of 0; behind them there is no candle until the next trade."""
    exchange = Listed({END - 9: 5.0, END - 4: 6.0, END: 7.0}, quiet_slots=2)

    _, candles = await told(exchange, Window(Slot(END - 8), Slot(END)))

    assert candles == {-8: (5.0, 0.0), -7: (5.0, 0.0), -4: (6.0, 1.0), -3: (6.0, 0.0), -2: (6.0, 0.0)}


async def test_who_lists_quiet_minutes_had_an_outage_where_one_is_missing() -> None:
    """Nothing is made up for it."""
    _, candles = await told(Listed({END - 3: 5.0, END - 1: 6.0, END: 7.0}), Window(Slot(END - 3), Slot(END)))

    assert candles == {-3: (5.0, 1.0), -1: (6.0, 1.0)}


async def test_a_window_is_asked_for_page_by_page() -> None:
    """At a run's pace, each minute once, up to the one that shows that the last is complete."""
    exchange = Listed(dict.fromkeys(range(END - 40, END + 1), 5.0))

    _, candles = await told(exchange, Window(Slot(END - 25), Slot(END)))

    assert len(candles) == 25
    assert [(window.start - END, window.end - END, slowly) for window, slowly in exchange.asked] == [
        (-25, -15, False),
        (-15, -5, False),
        (-5, 1, False),
    ]


async def test_what_a_run_does_not_look_back_for_is_a_backfills() -> None:
    """Older than the reach there are no candles at a run's pace, but older ones, slowly, a call a piece."""
    exchange = Listed(dict.fromkeys(range(END - 3000, END + 1), 5.0), quiet_slots=3)
    old = Window(Slot(END - 2000), Slot(END - 1980))

    assert (await exchange.candles("A", old)).window == Window(Slot(END - REACH_SLOTS - 2), Slot(END - REACH_SLOTS - 2))
    exchange.asked.clear()
    pieces = [piece async for piece in exchange.older_candles("A", old)]

    assert [(piece.window.start - END, len(piece.slots)) for piece in pieces] == [
        (-2000, 6),
        (-1994, 6),
        (-1988, 6),
        (-1982, 2),
    ]
    assert len(exchange.asked) == len(pieces)
    assert all(slowly for _, slowly in exchange.asked)


def test_rows_rise() -> None:
    """Rows outside of what was asked for are left out; two of one minute, or out of order, are no answer."""
    rows = [Row(Slot(slot), 1.0, 1.0) for slot in (3, 5, 8)]
    assert in_order(rows, Window(Slot(4), Slot(8)), Numbers("X"), "A") == rows[1:2]
    for wrong in ([*rows, rows[2]], rows[::-1]):
        with pytest.raises(ExchangeMalformedError, match="X:A: a candle out of order, at "):
            in_order(wrong, Window(Slot(4), Slot(8)), Numbers("X"), "A")
