"""Fills a past window: what the exchange's candles reach at once, what is older as the exchange bears it.

It keeps to the law of a run: it adds what the store lacks and changes nothing. So it may be interrupted anywhere and
started again, and may work beside a collector that runs each minute. It writes as it goes and holds one metric's
window at a time.

The order of work: of every metric first what candles reach, then metric by metric what is older; after each part the
measures that follow from it (`volume` from 1440 minutes, `change_*` from the price a day earlier).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from services.collector.collecting import Collector
from services.collector.exchange_run import read_ledgers
from services.collector.ledger import Ledger
from services.collector.progress import Meter, Report
from services.collector.tasks import all_of, in_thread
from services.core.catalog.base import Market
from services.core.errors import ExchangeError, ExchangeMalformedError, ExchangeUnavailableError, InvalidInputError
from services.core.model import (
    DAY_SLOTS,
    Measure,
    Points,
    Quality,
    Slot,
    Window,
    last_complete_slot,
    slot_at,
    slot_time,
)
from services.core.store.base import RETENTION_DAYS

_MERGED_SLOTS = 60
_PATIENCE = 5
_FIRST_PAUSE_SECONDS = 5.0
_NOTHING = Window(Slot(0), Slot(0))


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill did."""

    window: Window
    """What was filled, after cutting off what has not ended yet."""
    point_count: int
    """How many points were written."""
    failures: dict[str, str]
    """By metric, what the exchange said where something failed; starting again goes on from there."""

    @property
    def exit_code(self) -> int:
        """0 where everything that exists was filled, 1 where some metric was given up."""
        return int(bool(self.failures))

    def to_json(self) -> str:
        """One line; times are ISO 8601."""
        start, end = (f"{slot_time(slot):%Y-%m-%dT%H:%M:%SZ}" for slot in (self.window.start, self.window.end))
        summary = {"start": start, "end": end, "points": self.point_count, "failures": self.failures}
        return json.dumps({**summary, "exit_code": self.exit_code}, ensure_ascii=False)


def window_since(length: int, now: float) -> Window:
    """The window of the last `length` complete slots; raises InvalidInputError beyond what a store keeps."""
    if not 1 <= length <= RETENTION_DAYS * DAY_SLOTS:
        raise InvalidInputError("since", f"{length} minutes is out of range", f"1 minute to {RETENTION_DAYS} days")
    return Window.ending(last_complete_slot(now) + 1, length)


async def backfill(collector: Collector, window: Window, *, progress: Report | None = None) -> BackfillReport:
    """Fill the window for every metric of the collector's catalog and shard.

    Exchanges are worked on side by side. One metric's failure leaves the others alone and is in the report; StoreError
    ends everything, and what has been written stays.
    """
    end = min(window.end, last_complete_slot(collector.clock.now()) + 1)
    window = Window(window.start, Slot(max(window.start, end)))
    markets = collector.markets()
    meter = Meter(len(window) * sum(len(market.pairs) for market in markets), "slots", progress)
    works = [
        [_Backfill(collector, Market(m.exchange, (pair,), m.measures), window, meter) for pair in m.pairs]
        for m in markets
    ]
    await all_of(*(_fill(of_exchange) for of_exchange in works))
    done = [work for of_exchange in works for work in of_exchange]
    failures = {work.metric: work.failure for work in done if work.failure}
    return BackfillReport(window, sum(work.point_count for work in done), failures)


async def _fill(works: list[_Backfill]) -> None:
    await all_of(*(work.fill_recent() for work in works))
    for work in works:
        await work.fill_older()


class _Backfill:
    """The work on one metric."""

    def __init__(self, collector: Collector, market: Market, window: Window, meter: Meter) -> None:
        """Take a market of one pair."""
        (metric,) = market.metrics
        self.metric = metric.name
        self.failure = ""
        self.point_count = 0
        self._collector = collector
        self._exchange = collector.exchange(market.exchange)
        self._market = market
        self._pair = metric.pair
        self._window = window
        self._meter = meter
        self._older = _NOTHING

    async def fill_recent(self) -> None:
        """Fill what candles reach, and remember what they do not."""
        ledger = await self._read()
        holes = _holes(ledger, self._window)
        known = len(self._window) - len(holes)
        self._meter.give(known, f"{self.metric}: {known} minutes are in the store")
        if holes:
            try:
                candles = await self._exchange.candles(self._pair, Window(holes[0], self._window.end))
            except ExchangeError as error:
                self._give_up(error)
                return
            ledger.add_candles(candles, Quality.BACKFILLED)
            self.failure = candles.remark or self.failure
            older = [slot for slot in holes if slot < candles.window.start]
            self._older = Window(older[0], Slot(older[-1] + 1)) if older else _NOTHING
            self._meter.add(len(holes) - len(older), f"{self.metric}: candles")
        await self._derive(ledger)

    async def fill_older(self) -> None:
        """Fill what is older, range by range, writing each piece as it comes."""
        if not len(self._older):
            return
        ledger = await self._read()
        try:
            for part in _ranges(_holes(ledger, self._older)):
                await self._fill_range(ledger, part)
        except ExchangeError as error:
            self._give_up(error)
        await self._derive(ledger)

    async def _fill_range(self, ledger: Ledger, part: Window) -> None:
        """Fill one range; an exchange in trouble gets a pause, and the work goes on behind the last piece."""
        start, tries, pause = part.start, _PATIENCE, _FIRST_PAUSE_SECONDS
        while start < part.end:
            try:
                async for piece in self._exchange.older_candles(self._pair, Window(start, part.end)):
                    holes = _holes(ledger, piece.window)
                    ledger.add_candles(piece, Quality.BACKFILLED)
                    self.failure = piece.remark or self.failure
                    await self._save(ledger)
                    start, tries, pause = piece.window.end, _PATIENCE, _FIRST_PAUSE_SECONDS
                    self._meter.add(len(holes), f"{self.metric}: {slot_time(start):%Y-%m-%d %H:%M}")
            except (ExchangeUnavailableError, ExchangeMalformedError) as error:
                tries -= 1
                if not tries:
                    raise
                asked = error.retry_after_seconds if isinstance(error, ExchangeUnavailableError) else None
                await self._collector.clock.sleep(max(pause, asked or 0.0))
                pause *= 2
            else:
                return

    async def _derive(self, ledger: Ledger) -> None:
        """Add what follows, and write."""
        ledger.derive_volume(self._window, Quality.BACKFILLED)
        unknown = ledger.unknown_before(self._window, new_only=False)
        closes_before = {}
        if any((slot + 1) % self._exchange.coarse_minutes == 0 for slot in unknown):
            try:
                span = Window(unknown[0], Slot(unknown[-1] + 1))
                closes_before = dict(await self._exchange.coarse_closes(self._pair, span))
            except ExchangeError as error:
                self._give_up(error)
        ledger.derive_change(self._window, Quality.BACKFILLED, closes_before)
        await self._save(ledger)

    async def _read(self) -> Ledger:
        ledgers = await in_thread(read_ledgers, self._collector.reader, self._market, self._window)
        return ledgers[self._pair]

    async def _save(self, ledger: Ledger) -> None:
        self.point_count += await in_thread(self._write, ledger.new_points(_NOTHING))
        ledger.mark_stored()

    def _write(self, points: Points) -> int:
        """Write what the store still lacks: a run beside us may have observed what we looked up."""
        # A margin, as the oldest slots leave the retention while we work.
        keep = points.slots > slot_at(self._collector.clock.now()) - RETENTION_DAYS * DAY_SLOTS + 1
        for index, series in enumerate(points.series):
            own = np.flatnonzero(keep & (points.series_index == index))
            if len(own):
                slots = points.slots[own]
                span = Window(Slot(int(slots.min())), Slot(int(slots.max()) + 1))
                stored = self._collector.reader.read_series(series, span).values[slots - span.start]
                keep[own] = np.isnan(stored)
        lacking = points.select(keep)
        self._collector.writer.write(lacking)
        return len(lacking)

    def _give_up(self, error: ExchangeError) -> None:
        self.failure = error.words


def _holes(ledger: Ledger, window: Window) -> list[Slot]:
    """The slots of the window that lack what candles tell, ascending."""
    return sorted({*ledger.holes(Measure.PRICE, window), *ledger.holes(Measure.VOLUME_1M, window)})


def _ranges(slots: list[Slot]) -> list[Window]:
    """Group slots into windows; what is close together is one, for a call costs more than an hour's trades."""
    ranges: list[Window] = []
    for slot in slots:
        if ranges and slot - ranges[-1].end < _MERGED_SLOTS:
            ranges[-1] = Window(ranges[-1].start, Slot(slot + 1))
        else:
            ranges.append(Window(slot, Slot(slot + 1)))
    return ranges
