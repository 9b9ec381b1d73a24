"""The commands that ask the query service: `list`, `history`, `rank`, and `top`, which asks the alert service too.

As in `cli`, what a command needs is imported within it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.command_line.arguments import DURATION, MEASURE, STATISTICS
from services.command_line.connecting import credentials
from services.command_line.helping import Command
from services.command_line.options import (
    both_services_options,
    end_option,
    limit_option,
    metric_argument,
    output_option,
    refuse_two_starts,
    server_option,
    since_option,
    start_option,
)
from services.core.words import Measure

if TYPE_CHECKING:
    import tickwatch

Answer = TypeVar("Answer")


def register(group: click.Group) -> None:
    """Add the commands to `tickwatch`."""
    for command in (list_metrics, history, rank, top):
        group.add_command(command)


@click.command(
    "list",
    cls=Command,
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
    from services.command_line.printing import print_metrics

    async def ask(client: tickwatch.Client) -> list[tickwatch.Metric]:
        return [metric async for metric in client.list_metrics(exchange=exchange)]

    print_metrics(_ask(server, ask), output, exchange=exchange)


@click.command(
    cls=Command,
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
@click.option("--interval", type=DURATION, metavar="DURATION", help="One value for so long a time, as in 5m; else 1m.")
@click.option(
    "--aggregation",
    type=click.Choice(["last", "mean", "min", "max"]),
    help="How an interval becomes a value; else last.",
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
    """Show how one measure of a metric went.

    The last 24 hours, or as long a time as is said, within the 30 days that are kept.

    MEASURE is price, volume (of 24
    hours), change_absolute, change_percentage (both against 24 hours earlier) or volume_1m (of the minute).
    """
    from services.command_line.printing import print_history

    refuse_two_starts(since, start)

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


@click.command(
    cls=Command,
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
    type=click.Choice(STATISTICS),
    default="stddev",
    show_default=True,
    help="By what they are ranked.",
)
@click.option("--window", type=DURATION, metavar="DURATION", help="How far back, from 2m to 24h; else 24h.")
@limit_option(10_000)
@output_option
@server_option
def rank(measure: Measure, statistic: str, window: timedelta | None, limit: int, output: str, server: str) -> None:
    """Rank the metrics by how much a measure moved.

    The most restless comes first. MEASURE is price, volume, change_absolute, change_percentage or volume_1m.
    """
    from services.command_line.printing import print_ranking

    async def ask(client: tickwatch.Client) -> tickwatch.Rankings:
        return await client.rank_metrics(measure, statistic=statistic, window=window, limit=limit)

    print_ranking(_ask(server, ask), output)


def _ask(server: str, question: Callable[[tickwatch.Client], Coroutine[Any, Any, Answer]]) -> Answer:
    """Put a question to a query service; turn its refusal into one line with a hint."""
    import tickwatch

    from services.command_line import asking

    return asking.ask(tickwatch.Client(server, credentials=credentials()), server, "--server", question)


@click.command(
    cls=Command,
    section="Ask",
    examples=[
        "tickwatch top",
        "tickwatch top volume_1m",
    ],
)
@click.argument("measure", type=MEASURE, default="price")
@both_services_options
def top(measure: Measure, server: str, alerts: str) -> None:
    """Watch the ranking and breaches live; q ends it.

    The ranking of a measure (price, volume, change_absolute, change_percentage or volume_1m; price, if none is named),
    the last hour of each metric, and breaches as they are found.

    Needs the extra `top`: pip install 'tickwatch[top]'.
    """
    import tickwatch

    try:
        from services.command_line.top.app import Top
    except ModuleNotFoundError as error:
        if error.name != "textual":
            raise
        raise click.ClickException("the live view needs textual (pip install 'tickwatch[top]')") from error

    given = credentials()

    def connect() -> tuple[tickwatch.Client, tickwatch.AlertClient]:
        return tickwatch.Client(server, credentials=given), tickwatch.AlertClient(alerts, credentials=given)

    Top(connect, measure=measure.value).run()
