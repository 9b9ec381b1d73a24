"""Every role in one process on one store: what `tickwatch up` runs.

The composition root of the smallest shape. Roles share nothing but the store, here as on a cluster. What it prints is
for the person who started it; what roles log goes to the log.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from prometheus_client import CollectorRegistry
from rich.console import Console

from services import wiring
from services.alerter.leadership.leading import AlwaysLeads
from services.alerter.server import open_alerter
from services.collector import backfill
from services.collector.collecting import Collector
from services.collector.exchanges.base import ExchangeOptions
from services.collector.exchanges.registry import build_exchange, default_market, exchange_name
from services.collector.job import open_collector, run_loop
from services.collector.progress import Progress
from services.collector.reporting import RunReport
from services.collector.tasks import all_of
from services.core.catalog.base import Catalog, FixedCatalog, Market
from services.core.clock import SystemClock
from services.core.errors import ExchangeError, InvalidSettingError
from services.core.model import DAY_SLOTS, Outcome, Slot, slot_time
from services.core.settings import Settings
from services.core.stopping import stop_signals, until_stopped
from services.core.telemetry import serve_metrics
from services.gateway.server import open_gateway
from services.query.server import open_query_server

SIMULATED = "SIM"

_PROBE_SECONDS = 3.0
_LOOK_SECONDS = 0.05
_PROGRESS_EVERY_SECONDS = 10.0


async def run_all(
    settings: Settings,
    *,
    exchange: str | None = None,
    listen: str | None = None,
    alerts: str | None = None,
    gateway: str | None = None,
) -> int:
    """Run every role until SIGINT or SIGTERM; return the exit code.

    `listen`, `alerts` and `gateway` are where query service, alerter and gateway answer, None: where the settings say.
    `exchange` insists on one, in any case; without it the catalog's exchanges are used if one of them answers, else the
    simulated market, in a data file of its own. Raises InvalidSettingError for what cannot be run so.
    """
    console = Console(highlight=False, soft_wrap=True)
    wiring.configure_logs(settings, default_level="warning")
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        settings, catalog, notice = await _choose_market(settings, exchange)
        store = stack.enter_context(wiring.open_store(settings))
        registry = CollectorRegistry()
        if settings.metrics.listen:
            stack.enter_context(serve_metrics(settings.metrics.listen, registry))
        server = await stack.enter_async_context(
            open_query_server(reader=store, registry=registry, **wiring.query_arguments(settings, listen))
        )
        leadership = _OnceFilled()
        alerter = await stack.enter_async_context(
            open_alerter(
                store=store,
                registry=registry,
                **wiring.alerter_arguments(settings, catalog=catalog, listen=alerts, leadership=leadership),
            )
        )
        front = await stack.enter_async_context(
            open_gateway(
                registry=registry,
                **wiring.gateway_arguments(settings, gateway) | {"query": server.address, "alerts": alerter.address},
            )
        )
        console.print(f"[bold green]Tickwatch[/] is at [bold]{front.url}[/]")
        if notice:
            console.print(f"[bold yellow]{notice}[/]")
        collector = await stack.enter_async_context(
            open_collector(store, catalog=catalog, exchange_options=wiring.exchange_options(settings))
        )
        reporter = _Reporter(console)
        runs = run_loop(
            collector,
            clock=SystemClock(),
            stop=stop,
            settle_seconds=settings.collector.settle_seconds,
            on_report=reporter.run,
        )

        async def welcome() -> None:
            await server.ready()
            await reporter.first_run.wait()
            if _reaches_back(collector):  # else that takes minutes, and what it finds is older than what is watched
                await _fill_the_day(collector, reporter)
            leadership.begin()
            await alerter.ready()
            # A run's record follows its points, so that once the window has the run it has all that the run wrote.
            while reporter.wrote and (server.window.newest_run or 0) < reporter.newest:  # noqa: ASYNC110  of a thread
                await asyncio.sleep(_LOOK_SECONDS)
            addresses = {
                "HTTP": front.url,
                "store": settings.store,
                "gRPC": server.address,
                "alerts": alerter.address,
            }
            _print_what_to_try(console, collector, addresses, reporter.newest)
            if not _reaches_back(collector):
                await _fill_the_day(collector, reporter)

        await all_of(runs, until_stopped(stop, welcome()))
        console.print("stopping")
    return 0


async def _choose_market(settings: Settings, insisted: str | None) -> tuple[Settings, Catalog, str]:
    """Decide what is tracked and where it is kept; the third value is a notice for the person, or empty."""
    if insisted is not None:
        name = exchange_name(insisted, "--exchange")
        own = [market for market in wiring.open_catalog(settings).read() if market.exchange == name]
        if name == SIMULATED:
            notice = "The market is simulated, as asked for: its metrics are named SIM:…"
            return _simulated(settings, notice, own or [default_market(name)])
        if not own and settings.catalog is None:
            own = [default_market(name)]
        if not own:
            raise InvalidSettingError("--exchange", f"the catalog tracks nothing on {name}", "name its pairs there")
        return settings, FixedCatalog(*own), ""
    catalog = wiring.open_catalog(settings)
    refusals = []
    for market in catalog.read():
        try:
            await _probe(market, wiring.exchange_options(settings))
        except ExchangeError as error:
            refusals.append(str(error))
        else:
            return settings, catalog, ""
    return _simulated(
        settings,
        f"No exchange can be reached ({'; '.join(refusals)}).\n"
        "What follows is a SIMULATED market, in a data file of its own; its metrics are named SIM:…\n"
        "To insist on real data: tickwatch up --exchange kraken",
        [default_market(SIMULATED)],
    )


def _simulated(settings: Settings, notice: str, markets: Sequence[Market]) -> tuple[Settings, Catalog, str]:
    scheme, _, path = settings.store.partition(":")
    if scheme == "sqlite":
        settings = settings.replaced(store=f"sqlite:{Path(path).parent / 'simulated.db'}")
    elif scheme != "memory":
        raise InvalidSettingError("store", "a simulated market is not written to a shared store", "sqlite: or memory:")
    return settings, FixedCatalog(*markets), notice


async def _probe(market: Market, options: dict[str, ExchangeOptions]) -> None:
    """Ask an exchange for one pair, once and briefly; raise ExchangeError where it does not answer."""
    by_name = {exchange_name(name): value for name, value in options.items()}
    brief = dataclasses.replace(
        by_name.get(market.exchange, ExchangeOptions()),
        retries=0,
        connect_timeout_seconds=_PROBE_SECONDS,
        timeout_seconds=_PROBE_SECONDS,
    )
    async with build_exchange(market.exchange, brief, SystemClock()) as exchange:
        sample = await exchange.sample(market.pairs[:1])
        if not sample.tickers:
            raise next(iter(sample.failures.values()))


class _Reporter:
    """Tells the person what happens, a line a minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_progress = float("-inf")
        self.first_run = asyncio.Event()
        self.newest = Slot(0)
        self.wrote = False

    def run(self, report: RunReport) -> None:
        """Print how a run fared."""
        for part in report.exchanges:
            words = f"{slot_time(report.slot):%H:%M} {part.exchange}: {part.point_count} points"
            if part.repaired_count:
                words += f", {part.repaired_count} filled in"
            if part.outcome is Outcome.OK:
                self._console.print(f"[dim]{words}[/]")
            else:
                self._console.print(f"[yellow]{words}; {part.outcome.value}: {part.error}[/]", markup=True)
        self.newest = report.slot
        self.wrote = any(part.point_count for part in report.exchanges)
        self.first_run.set()

    def progress(self, progress: Progress) -> None:
        """Print how far the backfill is, every few seconds."""
        now = asyncio.get_running_loop().time()
        if now - self._last_progress >= _PROGRESS_EVERY_SECONDS and progress.done < progress.total:
            self._last_progress = now
            left = "" if progress.seconds_left is None else f", about {progress.seconds_left / 60:.0f} min left"
            self._console.print(f"[dim]filling in the last 24 hours: {progress.done / progress.total:.0%}{left}[/]")

    def filled(self, report: backfill.BackfillReport) -> None:
        """Print how the backfill ended."""
        for metric, words in report.failures.items():
            self._console.print(f"[yellow]{metric}: the last 24 hours have gaps: {words}[/]")
        if report.point_count:
            self._console.print(f"[dim]the last 24 hours are filled in: {report.point_count} points[/]")


async def _fill_the_day(collector: Collector, reporter: _Reporter) -> None:
    """Fill what the first run could not reach: the older half of the day, at the exchange's pace.

    Where candles reach back without limit a second day costs nothing, and makes the first day's `volume` whole.
    """
    window = backfill.window_since(DAY_SLOTS * (2 if _reaches_back(collector) else 1), collector.clock.now())
    reporter.filled(await backfill.backfill(collector, window, progress=reporter.progress))


def _reaches_back(collector: Collector) -> bool:
    """Whether every exchange's candles reach back without limit, so that days are filled in within seconds."""
    return all(collector.exchange(market.exchange).candle_reach is None for market in collector.markets())


class _OnceFilled(AlwaysLeads):
    """Leads once the store has what can be had at once.

    A first log begins with that history then; and in a store that was left alone for hours nothing counts as missing
    that is filled in a moment later.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begin: Callable[[], None] = lambda: None

    def start(self, take_up: Callable[[], None], lay_down: Callable[[], None]) -> None:
        """Wait for `begin`."""
        self._begin = functools.partial(super().start, take_up, lay_down)

    def begin(self) -> None:
        """Lead from now on."""
        self._begin()


def _print_what_to_try(console: Console, collector: Collector, addresses: dict[str, str], newest: Slot) -> None:
    ours, found = Path(sys.argv[0]), shutil.which("tickwatch")
    elsewhere = ours.exists() and not (found and ours.samefile(found))
    command = os.path.relpath(ours) if elsewhere else "tickwatch"  # as a shell here would find it
    queries, alerts = addresses["gRPC"], addresses["alerts"]
    server = "" if queries == "127.0.0.1:50051" else f" --server {queries}"
    watched = "" if alerts == "127.0.0.1:50052" else f" --alerts {alerts}"
    metric = collector.markets()[0].metrics[0].name
    console.print(f"\n[bold green]Tickwatch is up[/], with data up to {slot_time(newest):%H:%M} UTC. Ctrl-C stops it.")
    for name, value in addresses.items():
        console.print(f"  {name:<6} {value}")
    console.print("\nTry, in another terminal:\n")
    for words in (f"list{server}", f"history {metric} price{server}", f"rank price{server}", f"watch{watched}"):
        console.print(f"  [bold]{command} {words}[/]")
    console.print()
