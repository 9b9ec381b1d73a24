"""A run on one exchange: what it asks, what it believes, and what becomes of it.

The law of a run: it adds points that the store lacks and changes none. So a run may be repeated, late, or made twice
at once, and an interrupted one is completed by the next. A run is on time in the minute after its slot; only then does
a ticker, which bears no time, belong to the slot, and only then are the points OBSERVED. A late run is a repair.

It sees the two sides of a store and the interface of an exchange; it knows no format and no backend.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from services.collector.exchanges.base import Candles, Exchange, Sample
from services.collector.ledger import Ledger
from services.collector.reporting import ExchangeReport
from services.collector.tasks import in_thread
from services.core.catalog.base import Market
from services.core.clock import Clock
from services.core.errors import ExchangeError, ExchangeMalformedError, ExchangeUnavailableError
from services.core.model import (
    DAY_SLOTS,
    Measure,
    Metric,
    Outcome,
    Points,
    Quality,
    Run,
    Series,
    SeriesColumns,
    Slot,
    Window,
    last_complete_slot,
    slot_time,
)
from services.core.store.base import MetricReader, MetricWriter

T = TypeVar("T")

REPAIR_SLOTS = 720
"""How far back a run looks for holes, where the exchange's candles reach that far."""

_SAMPLED = (Measure.PRICE, Measure.VOLUME_1M)
_DERIVED = (Measure.VOLUME, Measure.CHANGE_ABSOLUTE, Measure.CHANGE_PERCENTAGE)
_CONFIRMED_SLOTS = 60
_VALUES_AT_ONCE = 2_000_000
"""More are asked for a measure at a time: an answer takes many times its values' memory on its way to the ledgers."""
_LAG_SECONDS = 2.0
_LAG_TRIES = 2

_logger = logging.getLogger(__name__)


def read_ledgers(reader: MetricReader, market: Market, window: Window) -> dict[str, Ledger]:
    """Read what the store knows of a market's pairs, to derive what is missing in the window; blocks.

    The ledgers begin a day before the window, which is where the day's volume and the price to compare with lie. One
    pair is asked for by its series, several by questions for all: a store answers that much faster.
    """
    whole = Window(Slot(window.start - DAY_SLOTS), window.end)
    pairs = {Metric(market.exchange, pair).name: pair for pair in market.pairs}
    ledgers = {pair: Ledger(name, whole, market.measures) for name, pair in pairs.items()}
    for measures, part in ((_SAMPLED, whole), (_DERIVED, window)):
        if len(pairs) == 1:
            for ledger, measure in itertools.product(ledgers.values(), measures):
                ledger.add_stored(measure, reader.read_series(Series(ledger.metric, measure), part))
            continue
        at_once = max(1, _VALUES_AT_ONCE // (len(pairs) * len(part)))
        for first in range(0, len(measures), at_once):
            columns = reader.read_window(part, measures[first : first + at_once])
            for row, series in enumerate(columns.series):
                if series.metric in pairs:
                    own = SeriesColumns(part, columns.values[row], columns.qualities[row])
                    ledgers[pairs[series.metric]].add_stored(series.measure, own)
    return ledgers


class ExchangeRun:
    """The part of a run that is about one exchange; made once."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        market: Market,
        slot: Slot,
        shard: int,
        reader: MetricReader,
        writer: MetricWriter,
        clock: Clock,
        deadline: float,
    ) -> None:
        """Take the `market` of this shard, and the `deadline` by the event loop's clock."""
        self._exchange = exchange
        self._market = market
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._slot = slot
        self._shard = shard
        self._deadline = deadline
        reach = min(REPAIR_SLOTS, self._exchange.candle_reach or REPAIR_SLOTS)
        self._repairable = Window(Slot(slot + 1 - reach), Slot(slot + 1))
        self._quality = Quality.BACKFILLED
        self._failures: dict[str, str] = {}
        self._remarks: dict[str, None] = {}

    async def make(self) -> ExchangeReport:
        """Ask, derive, write and record. Raises StoreError where the store failed."""
        on_time = self._on_time()
        self._quality = Quality.OBSERVED if on_time else Quality.BACKFILLED
        pairs = self._rotated()
        asking = asyncio.create_task(self._in_time(self._exchange.sample(pairs))) if on_time else None
        try:
            ledgers, confirmed = await in_thread(self._read)
            outcomes = await asyncio.gather(*(self._add_candles(pair, ledgers[pair]) for pair in pairs))
            sample = await asking if asking else None
        finally:
            if asking:
                asking.cancel()
                await asyncio.wait([asking])
        own = Window(self._slot, Slot(self._slot + 1))
        for pair, (candles, closes_before) in zip(pairs, outcomes, strict=True):
            ledger = ledgers[pair]
            ledger.derive_volume(own, self._quality)
            if sample is not None:
                self._add_ticker(pair, ledger, sample, candles)
            ledger.derive_change(own, self._quality, closes_before)
            ledger.derive_volume(self._repairable, Quality.BACKFILLED)
            ledger.derive_change(self._repairable, Quality.BACKFILLED, closes_before)
        points = Points.concatenate([ledger.new_points(confirmed) for ledger in ledgers.values()])
        return await in_thread(self._write, points)

    def _read(self) -> tuple[dict[str, Ledger], Window]:
        """What is known, and the slots to write again: those after the last run that is on record.

        Whether the run that wrote them came to its end nobody knows, and a store promises followers only what a write
        that ended has written.
        """
        runs = self._reader.latest_runs()
        last = [run.slot for run in runs if run.exchange == self._exchange.name and run.shard == self._shard]
        start = max([self._slot + 1 - _CONFIRMED_SLOTS, *(slot + 1 for slot in last)])
        confirmed = Window(Slot(min(start, self._slot)), self._repairable.end)
        return read_ledgers(self._reader, self._market, self._repairable), confirmed

    def _write(self, points: Points) -> ExchangeReport:
        self._writer.write(points)
        own_count = int((points.slots == self._slot).sum())
        failed = bool(self._failures or self._remarks)
        outcome = Outcome.OK if not failed else Outcome.PARTIAL if own_count else Outcome.FAILED
        report = ExchangeReport(
            self._exchange.name,
            outcome,
            own_count,
            len(points) - own_count,
            self._failures,
            tuple(self._remarks),
        )
        self._writer.record_run(
            Run(
                exchange=report.exchange,
                slot=self._slot,
                finished_at=self._clock.now(),
                point_count=report.point_count,
                outcome=outcome,
                error=report.error,
                shard=self._shard,
            )
        )
        return report

    async def _add_candles(
        self, pair: str, ledger: Ledger
    ) -> tuple[Candles | ExchangeError | None, Mapping[Slot, float]]:
        """Fill the slot and the holes before it; return the candles (None: none were needed) and coarse closes."""
        holes = [slot for m in _SAMPLED for slot in ledger.holes(m, self._repairable)[:1]]
        if not holes:
            return None, {}
        window = Window(min(holes), self._repairable.end)
        candles = await self._in_time(self._fresh_candles(pair, window))
        if isinstance(candles, ExchangeError):
            self._failures[pair] = candles.words
            return candles, {}
        if candles.remark:
            self._remarks[candles.remark] = None
        if candles.window.end <= self._slot:
            newest = slot_time(candles.window.end - 1)
            self._failures[pair] = f"its newest complete candle is of {newest:%H:%M}, not {slot_time(self._slot):%H:%M}"
        own = Window(self._slot, Slot(self._slot + 1))
        ledger.add_candles(candles.within(own), self._quality)
        ledger.add_candles(candles, Quality.BACKFILLED)
        return candles, await self._closes_before(pair, ledger)

    async def _fresh_candles(self, pair: str, window: Window) -> Candles:
        """Ask again where an exchange is a moment late with the slot that has just ended."""
        for _ in range(_LAG_TRIES if self._on_time() else 0):
            candles = await self._exchange.candles(pair, window)
            if candles.window.end != self._slot:
                return candles
            await self._clock.sleep(_LAG_SECONDS)
        return await self._exchange.candles(pair, window)

    async def _closes_before(self, pair: str, ledger: Ledger) -> Mapping[Slot, float]:
        """Look up the prices of the day before that the store lacks, where longer candles can tell them."""
        if not {Measure.CHANGE_ABSOLUTE, Measure.CHANGE_PERCENTAGE} & set(self._market.measures):
            return {}
        unknown = ledger.unknown_before(self._repairable, new_only=True)
        wanted = [slot for slot in unknown if (slot + 1) % self._exchange.coarse_minutes == 0]
        if not wanted:
            return {}
        found = await self._in_time(self._exchange.coarse_closes(pair, Window(wanted[0], Slot(wanted[-1] + 1))))
        if isinstance(found, ExchangeError):
            self._failures[pair] = found.words
            return {}
        return found

    def _add_ticker(
        self, pair: str, ledger: Ledger, sample: Sample | ExchangeError, candles: Candles | ExchangeError | None
    ) -> None:
        """Take what only the ticker tells, unless candles show that the exchange's clock stands still."""
        if isinstance(sample, ExchangeError):
            self._failures.setdefault(pair, sample.words)
            return
        self._remarks |= dict.fromkeys(sample.remarks)
        if pair in sample.failures:
            self._failures.setdefault(pair, sample.failures[pair].words)
        ticker = sample.tickers.get(pair)
        behind = isinstance(candles, Candles) and candles.window.end <= self._slot
        if ticker and not behind and self._on_time():
            unread = isinstance(candles, ExchangeError)
            ledger.add_ticker(ticker, self._slot, Quality.OBSERVED, with_price=unread)

    async def _in_time(self, asking: Awaitable[T]) -> T | ExchangeError:
        """Await an answer until the run's deadline; failures of the exchange are returned, not raised."""
        try:
            async with asyncio.timeout_at(self._deadline):
                return await asking
        except ExchangeError as error:
            return error
        except TimeoutError:
            return ExchangeUnavailableError(self._exchange.name, "not answered within the run's time")
        except Exception as error:
            _logger.exception("an answer of %s could not be dealt with", self._exchange.name)
            return ExchangeMalformedError(self._exchange.name, f"internal error: {type(error).__name__}: {error}")

    def _on_time(self) -> bool:
        return self._slot == last_complete_slot(self._clock.now())

    def _rotated(self) -> Sequence[str]:
        """The pairs, from another one each minute: where the pace leaves some unasked, all get their turn."""
        first = self._slot % len(self._market.pairs)
        return self._market.pairs[first:] + self._market.pairs[:first]
