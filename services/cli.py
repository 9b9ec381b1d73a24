"""The `tickwatch` command: one command for every role and every question.

It parses, loads the settings, and hands over; what a role does is written in the role. Everything but click is imported
within the command that needs it, because a collector run starts every minute and pays for each import.

Exit codes: 0 done, 1 failed in part (some exchange, pair or row; no answer), 2 wrong usage or configuration, 3 the
store, or the cluster that has the catalog or the rules, is out of reach.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services import cli_alerts, cli_rules
from services.arguments import DURATION, MEASURE, SHARD, TIME, to_slot
from services.connecting import credentials
from services.core.errors import (
    ClusterRefusedError,
    ClusterUnavailableError,
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    TickwatchError,
)
from services.core.words import Measure, Slot
from services.helping import Group
from services.options import (
    both_services_options,
    end_option,
    limit_option,
    listen_option,
    metric_argument,
    output_option,
    server_option,
    since_option,
    start_option,
)

if TYPE_CHECKING:
    import tickwatch

    from services.core.settings import Settings

Answer = TypeVar("Answer")

EXIT_FAILED, EXIT_USAGE, EXIT_STORE = 1, 2, 3


class Context:
    """What every command can ask for: the settings, read only when they are needed."""

    def __init__(self, config: Path | None, store: str | None) -> None:
        self._config = config
        self._store = store

    def settings(self) -> Settings:
        """Read the settings, the command line's flags on top."""
        from services.core.settings import load_settings

        settings = load_settings(self._config)
        return settings if self._store is None else settings.replaced(store=self._store)


pass_context = click.make_pass_decorator(Context)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    examples=["tickwatch up", "tickwatch rank price", "tickwatch history --help"],
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file; else TICKWATCH_CONFIG or ./tickwatch.yaml."
)
@click.option("--store", metavar="URL", help="sqlite:PATH or influxdb+http://HOST:8086/ORG/BUCKET.")
@click.version_option(package_name="tickwatch")
@click.pass_context
def cli(context: click.Context, config: Path | None, store: str | None) -> None:
    """Sample crypto exchanges every minute; answer what happened in the last 24 hours.

    Start with `tickwatch up`: it runs everything in one process.
    """
    context.obj = Context(config, store)


@cli.command(
    section="Run",
    examples=[
        "tickwatch up",
        "tickwatch up --exchange simulated",
    ],
)
@click.option("--exchange", type=click.Choice(["kraken", "simulated"]), help="Insist on this exchange.")
@click.option("--listen", metavar="HOST:PORT", help="Where to answer questions; else query.listen of the settings.")
@click.option("--alerts", metavar="HOST:PORT", help="Where to stream alerts; else alerter.listen of the settings.")
@pass_context
def up(context: Context, exchange: str | None, listen: str | None, alerts: str | None) -> None:
    """Run everything in one process, on SQLite: fill in the last 24 hours, then add a point every minute, and alert."""
    import asyncio

    from services.all_in_one import run_all

    sys.exit(asyncio.run(run_all(context.settings(), exchange=exchange, listen=listen, alerts=alerts)))


@cli.command(
    section="Run",
    examples=[
        "tickwatch collect",
        "tickwatch collect --shard 0/4",
        "tickwatch collect --loop",
    ],
)
@click.option(
    "--at", type=TIME, metavar="TIME", help="The time the run was scheduled for; it writes the minute before."
)
@click.option("--loop", is_flag=True, help="Stay up and run after every minute.")
@click.option("--shard", type=SHARD, metavar="I/N", help="Only the metrics whose hash falls in part I of N.")
@pass_context
def collect(context: Context, at: datetime | None, *, loop: bool, shard: tuple[int, int] | None) -> None:
    """Sample every exchange of the catalog once, and write the minute that has just ended."""
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


@cli.command(
    section="Run",
    examples=[
        "tickwatch backfill --since 24h",
        "tickwatch backfill --from points.csv",
    ],
)
@click.option("--since", type=DURATION, metavar="DURATION", help="Fill what is missing in this long a time, as in 24h.")
@click.option("--from", "file", type=click.Path(path_type=Path, dir_okay=False), help="Load a .csv or .csv.gz file.")
@click.option("--metric", help="With --from: the metric of an exchange's candle file, which does not name it.")
@pass_context
def backfill(context: Context, since: timedelta | None, file: Path | None, metric: str | None) -> None:
    """Fill in what was missed, from the exchanges or from a file; started again, it goes on where it was.

    A file has the columns metric,measure,time,value under a header of these names, or is an exchange's file of candles
    without a header: time,open,high,low,close,volume,count. Standard output gets one JSON line at the end.
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
    from services.printing import showing_progress

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
    from services.printing import showing_progress

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


@cli.command(
    section="Run",
    examples=[
        "tickwatch query",
        "tickwatch --store sqlite:other.db query --listen 127.0.0.1:50051",
    ],
)
@listen_option("query.listen")
@pass_context
def query(context: Context, listen: str | None) -> None:
    """Answer gRPC: ListMetrics, GetHistory, RankMetrics, WatchPoints."""
    from services.serving import serve_queries

    sys.exit(serve_queries(context.settings(), listen))


@cli.command(
    section="Run",
    examples=[
        "tickwatch alerter",
        "tickwatch --store sqlite:other.db alerter --listen 127.0.0.1:50052",
    ],
)
@listen_option("alerter.listen")
@pass_context
def alerter(context: Context, listen: str | None) -> None:
    """Evaluate the rules on every new point, notify webhooks, and answer gRPC: WatchBreaches and its kin."""
    from services.serving_alerts import serve_alerts

    sys.exit(serve_alerts(context.settings(), listen))


@cli.command(
    section="Run",
    examples=[
        "tickwatch gateway",
        "tickwatch gateway --listen 127.0.0.1:8080",
    ],
)
@listen_option("gateway.listen")
@pass_context
def gateway(context: Context, listen: str | None) -> None:
    """Answer HTTP: REST, event streams and the dashboard, over the query service and the alerter."""
    from services.serving_gateway import serve_gateway

    sys.exit(serve_gateway(context.settings(), listen))


@cli.command(
    "list",
    section="Ask",
    examples=[
        "tickwatch list",
        "tickwatch list --exchange KRAKEN",
        "tickwatch list --output json",
    ],
)
@click.option("--exchange", help="Only this exchange's metrics, such as KRAKEN.")
@output_option
@server_option
def list_metrics(exchange: str | None, output: str, server: str) -> None:
    """List the metrics that have a point in the last 24 hours."""
    from services.printing import print_metrics

    async def ask(client: tickwatch.Client) -> list[tickwatch.Metric]:
        return [metric async for metric in client.list_metrics(exchange=exchange)]

    print_metrics(_ask(server, ask), output)


@cli.command(
    section="Ask",
    examples=[
        "tickwatch history KRAKEN:BTCUSD price",
        "tickwatch history KRAKEN:BTCUSD price --since 6h --interval 5m --aggregation max",
        "tickwatch history KRAKEN:BTCUSD volume_1m --output csv > volume.csv",
    ],
)
@metric_argument
@click.argument("measure", type=MEASURE)
@since_option
@start_option
@end_option
@click.option("--interval", type=DURATION, metavar="DURATION", help="One value for so long a time, as in 5m.")
@click.option(
    "--aggregation", type=click.Choice(["last", "mean", "min", "max"]), help="How an interval becomes a value."
)
@output_option
@server_option
def history(
    metric: str,
    measure: Measure,
    since: timedelta | None,
    start: datetime | None,
    end: datetime | None,
    interval: timedelta | None,
    aggregation: str | None,
    output: str,
    server: str,
) -> None:
    """Show how one measure of a metric went: the last 24 hours, or as long a time as is said."""
    from services.printing import print_history

    if since is not None and start is not None:
        raise click.UsageError("give either --since or --start.")

    async def ask(client: tickwatch.Client) -> tickwatch.History:
        first, last = start, end
        if since is not None:
            # Without an end the server knows best where the newest minute is; ask it, then step back from there.
            if last is None:
                newest = await client.get_history(metric, measure)
                last = newest.start + len(newest.floats) * newest.interval
            first = last - since
        return await client.get_history(
            metric, measure, start=first, end=last, interval=interval, aggregation=aggregation
        )

    print_history(_ask(server, ask), output)


@cli.command(
    section="Ask",
    examples=[
        "tickwatch rank price",
        "tickwatch rank price --statistic coefficient_of_variation --window 6h",
        "tickwatch rank volume_1m --limit 3 --output csv",
    ],
)
@click.argument("measure", type=MEASURE)
@click.option(
    "--statistic",
    type=click.Choice(["stddev", "coefficient_of_variation", "log_return_stddev"]),
    default="stddev",
    show_default=True,
)
@click.option("--window", type=DURATION, metavar="DURATION", help="How far back, at most 24h.")
@limit_option(10_000)
@output_option
@server_option
def rank(measure: Measure, statistic: str, window: timedelta | None, limit: int, output: str, server: str) -> None:
    """Rank the metrics by how much a measure moved, the most restless first."""
    from services.printing import print_ranking

    async def ask(client: tickwatch.Client) -> tickwatch.Rankings:
        return await client.rank_metrics(measure, statistic=statistic, window=window, limit=limit)

    print_ranking(_ask(server, ask), output)


def _ask(server: str, question: Callable[[tickwatch.Client], Coroutine[Any, Any, Answer]]) -> Answer:
    """Put a question to a query service; turn its refusal into one line with a hint."""
    import tickwatch

    from services import asking

    return asking.ask(tickwatch.Client(server, credentials=credentials()), server, "--server", question)


@cli.command(
    section="Ask",
    examples=[
        "tickwatch top",
        "tickwatch top volume_1m",
    ],
)
@click.argument("measure", type=MEASURE, default="price")
@both_services_options
def top(measure: Measure, server: str, alerts: str) -> None:
    """Watch the ranking of a measure, the last hour of each metric, and breaches as they are found; q ends it.

    Needs the extra `top`: pip install 'tickwatch[top]'.
    """
    import tickwatch

    try:
        from services.top.app import Top
    except ModuleNotFoundError as error:
        if error.name != "textual":
            raise
        raise click.ClickException("the live view needs textual (pip install 'tickwatch[top]')") from error

    given = credentials()

    def connect() -> tuple[tickwatch.Client, tickwatch.AlertClient]:
        return tickwatch.Client(server, credentials=given), tickwatch.AlertClient(alerts, credentials=given)

    Top(connect, measure=measure.value).run()


cli_alerts.register(cli)
cli_rules.register(cli)


@cli.command(
    section="Shell",
    examples=[
        "tickwatch completion bash > tickwatch.bash",
        "tickwatch completion zsh > _tickwatch",
        "tickwatch completion fish > tickwatch.fish",
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Write what a shell has to read to complete commands, options, metrics and measures.

    bash: eval "$(tickwatch completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. fish: write it to
    ~/.config/fish/completions/tickwatch.fish.
    """
    from services.completing import script

    click.echo(script(cli, shell))


_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the command; every error that is not a bug is one line on standard error."""
    from services.completing import prepare

    # Imports make tens of thousands of objects that stay: to look for garbage after each 700 of them takes a tenth of
    # a command's time.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    prepare()
    try:
        cli(standalone_mode=True, prog_name="tickwatch")
    except InvalidInputError as error:
        _fail(error, EXIT_USAGE)
    except (StoreUnavailableError, ClusterUnavailableError) as error:
        _fail(error, EXIT_STORE)
    except (StoreRefusedError, ClusterRefusedError) as error:
        _fail(error, EXIT_USAGE)
    except TickwatchError as error:
        _fail(error, EXIT_FAILED)
    finally:
        # As it ends, the interpreter looks for garbage among all that the imports have made: a seventh of a command.
        gc.freeze()


def _fail(error: TickwatchError, code: int) -> None:
    click.echo(f"Error: {error}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
