"""The commands that run Tickwatch: `up`, `collect`, `backfill`, `query`, `alerter` and `gateway`.

They load the settings and hand over. As in `cli`, what a command needs is imported within it.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from services.command_line.arguments import DURATION, FILE, SHARD, TIME, to_slot
from services.command_line.context import Context, pass_context
from services.command_line.helping import Command
from services.command_line.options import listen_option
from services.core.words import Slot

if TYPE_CHECKING:
    from pathlib import Path

    from services.core.settings import Settings


def register(group: click.Group) -> None:
    """Add the commands to `tickwatch`."""
    for command in (up, collect, backfill, query, alerter, gateway):
        group.add_command(command)


@click.command(
    cls=Command,
    section="Run",
    examples=[
        "tickwatch up",
        "tickwatch up --exchange simulated",
        "tickwatch up --gateway 127.0.0.1:8090",
    ],
)
@click.option(
    "--exchange",
    type=click.Choice(["binance", "coinbase", "kraken", "simulated"]),
    help="Only this exchange, whether it answers or not.",
)
@click.option("--listen", metavar="HOST:PORT", help="Where to answer questions; else query.listen of the settings.")
@click.option("--alerts", metavar="HOST:PORT", help="Where to stream alerts; else alerter.listen of the settings.")
@click.option(
    "--gateway", metavar="HOST:PORT", help="Where to serve the dashboard and REST; else gateway.listen of the settings."
)
@pass_context
def up(context: Context, exchange: str | None, listen: str | None, alerts: str | None, gateway: str | None) -> None:
    """Run everything in one process, until Ctrl-C.

    It fills in the last 24 hours, then adds a point every minute, answers and alerts. Without --exchange it takes those
    of the catalog if one of them answers, else a simulated market, in a data file of its own.
    """
    import asyncio

    from services.all_in_one import run_all

    sys.exit(asyncio.run(run_all(context.settings(), exchange=exchange, listen=listen, alerts=alerts, gateway=gateway)))


@click.command(
    cls=Command,
    section="Run",
    examples=[
        "tickwatch collect",
        "tickwatch collect --shard 0/4",
        "tickwatch collect --loop",
    ],
)
@click.option(
    "--at",
    type=TIME,
    metavar="TIME",
    help="The time the run was scheduled for, else that of collector.job_name, else now; it writes the minute before.",
)
@click.option("--loop", is_flag=True, help="Stay up and run after every minute, until Ctrl-C.")
@click.option("--shard", type=SHARD, metavar="I/N", help="Only the metrics whose hash falls in part I, from 0, of N.")
@pass_context
def collect(context: Context, at: datetime | None, *, loop: bool, shard: tuple[int, int] | None) -> None:
    """Sample every exchange once, for the minute just ended.

    Every exchange of the catalog, that is; holes of the last hours are filled in besides. A run prints one JSON line.

    Exit codes of a run: 0 all is written, 1 some exchange or pair failed, 2 wrong settings, 3 the store, or the cluster
    that has the catalog, is out of reach.
    """
    import asyncio

    from services import wiring
    from services.collector import job

    if loop and at is not None:
        raise click.UsageError("--at is of one run; leave it out with --loop.")
    settings = context.settings()
    arguments = wiring.collector_arguments(settings) | ({"shard": shard} if shard else {})
    if loop:
        wiring.configure_logs(settings)
        sys.exit(asyncio.run(job.run_forever(**arguments, settle_seconds=settings.collector.settle_seconds)))
    slot = None if at is None else Slot(to_slot(at) - 1)
    sys.exit(asyncio.run(job.run_once(**arguments, slot=slot, job_name=settings.collector.job_name)))


@click.command(
    cls=Command,
    section="Run",
    examples=[
        "tickwatch backfill --since 24h",
        "tickwatch backfill --from points.csv",
    ],
)
@click.option(
    "--since",
    type=DURATION,
    metavar="DURATION",
    help="Fill what is missing in this long a time, as in 24h; at most 30d.",
)
@click.option("--from", "file", type=FILE, help="Load a .csv or .csv.gz file.")
@click.option("--metric", help="With --from: the metric of an exchange's candle file, which does not name it.")
@pass_context
def backfill(context: Context, since: timedelta | None, file: Path | None, metric: str | None) -> None:
    """Fill in what was missed, from exchanges or from a file.

    From exchanges it fills what is missing, and started again goes on where it was. What a file says replaces what is
    there. A file has the columns metric,measure,time,value under a header of these names, or is an exchange's file of
    one-minute candles without a header: time,open,high,low,close,volume,count. Times are ISO 8601 in UTC, or seconds
    since 1970, of the last 30 days. Standard output gets one JSON line at the end.

    Exit codes: 0 done, 1 some metric was given up or some row not loaded, 2 wrong usage or settings, 3 the store is out
    of reach.
    """
    import asyncio

    if (since is None) == (file is None):
        raise click.UsageError("give either --since DURATION or --from FILE.")
    if metric is not None and file is None:
        raise click.UsageError("--metric is of a file; give --from FILE with it.")
    settings = context.settings()
    if file is not None:
        sys.exit(_load(settings, file, metric))
    assert since is not None  # noqa: S101  # one of the two was given
    sys.exit(asyncio.run(_backfill(settings, int(since.total_seconds()) // 60)))


def _load(settings: Settings, file: Path, metric: str | None) -> int:
    from services import wiring
    from services.collector.bulk import load_file
    from services.command_line.printing import showing_progress

    with wiring.open_store(settings) as store, showing_progress(f"loading {file.name}") as progress:
        report = load_file(file, writer=store, metric=metric, progress=progress)
    for problem in report.problems:
        click.echo(f"{file}: {problem}", err=True)
    if report.bad_count > len(report.problems):
        click.echo(f"{file}: {report.bad_count - len(report.problems)} more rows were not loaded", err=True)
    click.echo(report.to_json())
    return report.exit_code


async def _backfill(settings: Settings, length: int) -> int:
    from services import wiring
    from services.collector.backfill import backfill, window_since
    from services.collector.job import open_collector
    from services.command_line.printing import showing_progress

    arguments = wiring.collector_arguments(settings)
    with wiring.open_store(settings) as store:
        opened = open_collector(
            store,
            catalog=arguments["catalog"],
            exchange_options=arguments["exchange_options"],
            shard=arguments["shard"],
        )
        async with opened as collector:
            window = window_since(length, collector.clock.now())
            with showing_progress("filling in") as progress:
                report = await backfill(collector, window, progress=progress)
    for name, words in report.failures.items():
        click.echo(f"{name}: given up, run it again to go on: {words}", err=True)
    click.echo(report.to_json())
    return report.exit_code


@click.command(
    cls=Command,
    section="Run",
    examples=[
        "tickwatch query",
        "tickwatch --store sqlite:other.db query --listen 127.0.0.1:50051",
    ],
)
@listen_option("query.listen")
@pass_context
def query(context: Context, listen: str | None) -> None:
    """Answer what happened, over gRPC.

    That is ListMetrics, GetHistory, RankMetrics and WatchPoints, health and reflection, until Ctrl-C.
    """
    from services.command_line.serving_queries import serve_queries

    sys.exit(serve_queries(context.settings(), listen))


@click.command(
    cls=Command,
    section="Run",
    examples=[
        "tickwatch alerter",
        "tickwatch --store sqlite:other.db alerter --listen 127.0.0.1:50052",
    ],
)
@listen_option("alerter.listen")
@pass_context
def alerter(context: Context, listen: str | None) -> None:
    """Evaluate the rules, notify webhooks, stream breaches.

    The rules are evaluated on every new point; WatchBreaches and its kin are answered over gRPC, until Ctrl-C.
    """
    from services.command_line.serving_alerts import serve_alerts

    sys.exit(serve_alerts(context.settings(), listen))


@click.command(
    cls=Command,
    section="Run",
    examples=[
        "tickwatch gateway",
        "tickwatch gateway --listen 127.0.0.1:8080",
    ],
)
@listen_option("gateway.listen")
@pass_context
def gateway(context: Context, listen: str | None) -> None:
    """Answer HTTP: REST, event streams, the dashboard.

    It asks the query service and the alerter, which gateway.query and gateway.alerts of the settings name.
    """
    from services.command_line.serving_gateway import serve_gateway

    sys.exit(serve_gateway(context.settings(), listen))
