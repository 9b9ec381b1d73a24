"""Exchanges whose minute candles reach back to a pair's first day, a page a call: what they have in common.

It knows pages, and when a candle is complete. How a page is asked for, and what it looks like, is the exchange's.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import httpx

from services.collector.exchanges.base import Candles, Exchange, ExchangeOptions
from services.collector.exchanges.calling import JsonApi
from services.collector.exchanges.reading import Numbers
from services.core.clock import Clock
from services.core.model import SLOT_SECONDS, Slot, Window, slot_at

REACH_SLOTS = 720
"""How far back `candles` goes at the pace of a run, which looks for holes no further back; the rest is a backfill's."""

SETTLED_SECONDS = 3.0
"""So long after its end, by the exchange's clock, a minute's candle no longer changes; before, the next minute's shows
that it is complete."""

_TURN_SLOTS = 2  # as much more than told, because a minute may end between question and answer


class Row(NamedTuple):
    """A candle as an exchange lists it."""

    slot: Slot
    close: float
    """In the quote currency."""
    volume: float
    """Base units traded within the slot."""


class PagedExchange(Exchange):
    """The questions about candles, answered by `page`.

    `client` is used as it is and left open, so that a test's transport or a shared pool fits.
    """

    candle_reach = REACH_SLOTS
    coarse_minutes = 1
    public_url: str
    calls_per_second: float
    """The pace of a run's calls behind its burst."""
    gap_fill_seconds: float
    """The least distance of a backfill's calls."""
    page_slots: int
    """How many minutes one call answers for at most."""
    quiet_slots = 0
    """For how many minutes without trades, which the exchange leaves out, the close before them stands."""

    def __init__(self, options: ExchangeOptions, clock: Clock, client: httpx.AsyncClient | None = None) -> None:
        self._clock = clock
        self._api = JsonApi(
            self.name,
            options.base_url or self.public_url,
            options,
            clock,
            client=client,
            gap_fill_seconds=self.gap_fill_seconds,
            calls_per_second=self.calls_per_second,
        )

    async def close(self) -> None:
        await self._api.close()

    @abstractmethod
    async def page(self, pair: str, window: Window, *, slowly: bool) -> list[Row]:
        """Ask once for the candles of a window of `page_slots` at most; `slowly` is the pace of a backfill.

        Ascending, each slot once, none outside of the window; among them the one in progress, as it is now.
        """

    async def candles(self, pair: str, window: Window) -> Candles:
        now = slot_at(self._clock.now())
        start = max(window.start, now - REACH_SLOTS - _TURN_SLOTS)
        end = max(start, min(window.end, now + 1))
        return await self._read(pair, Window(Slot(start), Slot(end)), slowly=False)

    async def older_candles(self, pair: str, window: Window) -> AsyncIterator[Candles]:
        step = self.page_slots - self.quiet_slots - 1  # with the one behind it, a page
        for start in range(window.start, window.end, step):
            yield await self._read(pair, Window(Slot(start), Slot(min(start + step, window.end))), slowly=True)

    async def coarse_closes(self, pair: str, window: Window) -> Mapping[Slot, float]:
        """Every close of the window: no longer candle is needed where minutes are listed."""
        return (await self._read(pair, window, slowly=False)).by_slot()

    async def _read(self, pair: str, window: Window, *, slowly: bool) -> Candles:
        """Read the window page by page, and the minute behind it, which shows that its last one is complete."""
        first, last = window.start - self.quiet_slots, window.end + 1
        rows: list[Row] = []
        for start in range(first, last, self.page_slots):
            page = Window(Slot(start), Slot(min(start + self.page_slots, last)))
            rows += await self.page(pair, page, slowly=slowly)
        # Not by ours: where that is fast, minutes that are still to come would be taken for quiet ones.
        complete = max(slot_at(self._api.time_there() - SETTLED_SECONDS), rows[-1].slot if rows else 0)
        return self._candles(rows, Window(window.start, Slot(max(window.start, min(window.end, complete)))))

    def _candles(self, rows: Sequence[Row], window: Window) -> Candles:
        """The rows of the window, and what stands for the quiet minutes behind each."""
        listed: dict[Slot, Row] = {}
        for row, following in itertools.pairwise([*rows, Row(window.end, 0.0, 0.0)]):
            quiet = range(row.slot + 1, min(following.slot, row.slot + 1 + self.quiet_slots))
            listed |= {row.slot: row, **{Slot(slot): Row(Slot(slot), row.close, 0.0) for slot in quiet}}
        inside = [row for slot, row in listed.items() if slot in window]
        columns = [row.slot for row in inside], [row.close for row in inside], [row.volume for row in inside]
        return Candles.of(window, *columns)


def in_order(rows: Sequence[Row], window: Window, numbers: Numbers, pair: str) -> list[Row]:
    """Return the rows of the window; raises ExchangeMalformedError unless each is later than the one before it."""
    for before, row in itertools.pairwise(rows):
        if row.slot <= before.slot:
            raise numbers.malformed(f"a candle out of order, at {row.slot * SLOT_SECONDS}", pair)
    return [row for row in rows if row.slot in window]
