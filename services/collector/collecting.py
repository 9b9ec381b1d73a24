"""One run: what the catalog names, exchange by exchange, side by side; what one of them did never stops the others.

What a run is on one exchange stands in `exchange_run`. This module sees the two sides of a store, the catalog and the
registry of exchanges; it knows no format and no backend.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Mapping

from services.collector.exchange_run import ExchangeRun
from services.collector.exchanges.base import Exchange, ExchangeOptions
from services.collector.exchanges.registry import build_exchange, exchange_name
from services.collector.reporting import ExchangeReport, RunReport
from services.collector.tasks import in_thread
from services.core.catalog.base import Catalog, Market
from services.core.clock import Clock
from services.core.errors import InvalidInputError, StoreError
from services.core.model import Metric, Outcome, Slot, last_complete_slot, slot_time
from services.core.store.base import MetricReader, MetricWriter

DEADLINE_SECONDS = 50.0
"""What the exchanges may take altogether, so that a run ends before the next begins."""

_logger = logging.getLogger(__name__)


def in_shard(metric: str, shard: tuple[int, int]) -> bool:
    """Whether the metric falls in part I of N; the same on every machine and for ever."""
    index, count = shard
    return zlib.crc32(metric.encode()) % count == index


class Collector:
    """Makes runs. Exchanges are built when the catalog first names them, and kept; those in `exchanges` are there."""

    def __init__(
        self,
        *,
        reader: MetricReader,
        writer: MetricWriter,
        catalog: Catalog,
        exchange_options: Mapping[str, ExchangeOptions],
        clock: Clock,
        shard: tuple[int, int] = (0, 1),
        deadline_seconds: float = DEADLINE_SECONDS,
        exchanges: Mapping[str, Exchange] | None = None,
    ) -> None:
        if not 0 <= shard[0] < shard[1]:
            raise InvalidInputError("shard", f"{shard[0]}/{shard[1]} is no part of a whole", "I/N with 0 <= I < N")
        self.reader = reader
        self.writer = writer
        self.catalog = catalog
        self.clock = clock
        self._shard = shard
        self._deadline_seconds = deadline_seconds
        self._options = {exchange_name(name, "exchanges"): options for name, options in exchange_options.items()}
        self._exchanges = dict(exchanges or {})

    async def collect(self, slot: Slot) -> RunReport:
        """Make the run of this slot.

        Raises InvalidInputError for a slot that has not ended, InvalidSettingError for a catalog that cannot be used,
        and StoreError where the store failed; by then the other exchanges have been written.
        """
        started = time.monotonic()
        if slot > last_complete_slot(self.clock.now()):
            raise InvalidInputError("slot", f"{slot_time(slot):%Y-%m-%dT%H:%MZ} has not ended yet", "a minute that has")
        markets = await in_thread(self.markets)
        deadline = asyncio.get_running_loop().time() + self._deadline_seconds
        results = await asyncio.gather(
            *(self._run(market, slot, deadline).make() for market in markets), return_exceptions=True
        )
        reports = [_report(market, result) for market, result in zip(markets, results, strict=True)]
        return RunReport(slot, self._shard, tuple(reports), time.monotonic() - started)

    def markets(self) -> list[Market]:
        """The catalog as it is now, without what falls in other shards."""
        own = []
        for market in self.catalog.read():
            name = exchange_name(market.exchange, "catalog")
            pairs = tuple(pair for pair in market.pairs if in_shard(Metric(name, pair).name, self._shard))
            if pairs:
                own.append(Market(name, pairs, market.measures))
        return own

    def exchange(self, name: str) -> Exchange:
        """The exchange of this name; built at the first call."""
        if name not in self._exchanges:
            self._exchanges[name] = build_exchange(name, self._options.get(name, ExchangeOptions()), self.clock)
        return self._exchanges[name]

    def _run(self, market: Market, slot: Slot, deadline: float) -> ExchangeRun:
        return ExchangeRun(
            exchange=self.exchange(market.exchange),
            market=market,
            slot=slot,
            shard=self._shard[0],
            reader=self.reader,
            writer=self.writer,
            clock=self.clock,
            deadline=deadline,
        )

    async def close(self) -> None:
        """Close the exchanges."""
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            await exchange.close()


def _report(market: Market, result: ExchangeReport | BaseException) -> ExchangeReport:
    if isinstance(result, ExchangeReport):
        return result
    if isinstance(result, StoreError | InvalidInputError) or not isinstance(result, Exception):
        raise result
    _logger.error("the run on %s failed", market.exchange, exc_info=result)
    words = f"internal error: {type(result).__name__}: {result}"
    return ExchangeReport(market.exchange, Outcome.FAILED, 0, 0, {}, (words,))
