"""The commands for people who wait for breaches: `watch`, `breaches`, `silence` and `dead-letters`.

Clients of the alert service like any other. As in `cli`, what a command needs is imported within it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.command_line.arguments import DURATION
from services.command_line.connecting import credentials
from services.command_line.context import Context, pass_context
from services.command_line.helping import Command, Group
from services.command_line.options import (
    alerts_option,
    end_option,
    limit_option,
    output_option,
    output_option_without_csv,
    refuse_two_starts,
    since_option,
    start_option,
)
from services.core.clock import SystemClock

if TYPE_CHECKING:
    import tickwatch

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_Command = TypeVar("_Command", bound=Callable[..., Any])

_SEVERITIES = ["info", "warning", "critical"]


def register(group: click.Group) -> None:
    """Add the commands to `tickwatch`."""
    for command in (watch, breaches, silence, dead_letters):
        group.add_command(command)


def _filters(command: _Command) -> _Command:
    """Add the options that narrow both the stream and the list."""
    options = (
        click.option("--rule", "rules", multiple=True, help="Only this rule; may be given again."),
        click.option(
            "--metric", "metrics", multiple=True, help="Only this metric, or glob as in 'KRAKEN:*'; may be given again."
        ),
        click.option("--severity", type=click.Choice(_SEVERITIES), help="Only this severity and above."),
        click.option(
            "--episodes",
            is_flag=True,
            help="Only what changes an episode: opened, stale, resolved, and withdrawals of these.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _narrowed(*, severity: str | None, episodes: bool) -> dict[str, Any]:
    return {"min_severity": severity, "delivery": "episodes" if episodes else "every_breach"}


@click.command(
    cls=Command,
    section="Alerts",
    examples=[
        "tickwatch watch",
        "tickwatch watch --episodes --severity warning",
        "tickwatch watch --metric 'KRAKEN:*' --output json",
    ],
)
@_filters
@click.option("--late", is_flag=True, help="Also what late points changed: late breaches and withdrawals.")
@click.option("--cursor", help="Go on after a line that had this cursor (--output json).")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", help="A line an event, or JSON lines.")
@alerts_option
@pass_context
def watch(
    context: Context,
    rules: tuple[str, ...],
    metrics: tuple[str, ...],
    severity: str | None,
    cursor: str | None,
    output: str,
    alerts: str,
    *,
    episodes: bool,
    late: bool,
) -> None:
    """Show breaches as they are found, until Ctrl-C.

    First what is open, then a line for every event. On a terminal the last line says how far rules have been evaluated,
    so that silence means that all is well. A broken connection is resumed without losing an event.
    """
    from services.command_line.printing_alerts import JsonPrinter, LinePrinter

    printer = LinePrinter(alerts, rewrites=context.rewrites) if output == "table" else JsonPrinter()

    async def show(client: tickwatch.AlertClient) -> None:
        stream = client.watch_breaches(
            rules,
            metrics,
            **_narrowed(severity=severity, episodes=episodes),
            include_late=late,
            cursor=cursor,
            bookmarks=True,
            on_retry=printer.retry,
        )
        async with aclosing(stream) as items:
            async for item in items:
                printer.show(item)

    try:
        ask(alerts, show)
    except KeyboardInterrupt:
        pass
    finally:
        printer.close()


@click.command(
    cls=Command,
    section="Alerts",
    examples=[
        "tickwatch breaches --since 6h",
        "tickwatch breaches --rule missing --episodes",
        "tickwatch breaches --limit 1000 --output csv > breaches.csv",
    ],
)
@_filters
@since_option
@start_option
@end_option
@limit_option(1_000_000)
@output_option
@alerts_option
def breaches(
    rules: tuple[str, ...],
    metrics: tuple[str, ...],
    severity: str | None,
    since: timedelta | None,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    output: str,
    alerts: str,
    *,
    episodes: bool,
) -> None:
    """List the breaches of the past, the last found first.

    Late breaches and withdrawals are among them. Without --since and --start it goes back as far as the log: 30 days.
    """
    from services.command_line.printing_alerts import print_breaches

    refuse_two_starts(since, start)
    if since is not None:
        last = end or datetime.fromtimestamp(SystemClock().now() // 60 * 60).astimezone()
        start = last - since

    async def collect(client: tickwatch.AlertClient) -> list[tickwatch.Event]:
        narrowed = _narrowed(severity=severity, episodes=episodes)
        return await _first(limit, client.list_breaches(rules, metrics, **narrowed, start=start, end=end))

    print_breaches(ask(alerts, collect), output)


@click.command(
    cls=Command,
    section="Alerts",
    examples=[
        "tickwatch silence",
        "tickwatch silence --rule missing --for 2h --comment maintenance",
        "tickwatch silence --metric 'KRAKEN:*' --for 30m",
    ],
)
@click.option("--rule", "rules", multiple=True, help="These rules, by name or glob; else all.")
@click.option("--exchange", "exchanges", multiple=True, help="These exchanges, by name or glob; else all.")
@click.option("--metric", "metrics", multiple=True, help="These metrics, by name or glob as in 'KRAKEN:*'; else all.")
@click.option("--measure", "measures", multiple=True, help="These measures, by name or glob; else all.")
@click.option("--for", "length", type=DURATION, metavar="DURATION", help="For how long, as in 2h; from 1m to 30d.")
@click.option("--comment", default="", help="Why, for whoever wonders.")
@click.option("--expire", metavar="ID", help="End this silence now.")
@output_option_without_csv
@alerts_option
def silence(
    rules: tuple[str, ...],
    exchanges: tuple[str, ...],
    metrics: tuple[str, ...],
    measures: tuple[str, ...],
    length: timedelta | None,
    comment: str,
    expire: str | None,
    output: str,
    alerts: str,
) -> None:
    """Silence breaches for a while; list what is silenced.

    With --for a selection of breaches is not notified for so long, all of them if nothing selects; what selects may be
    given again. Streams and the log have them all the same, marked. An event is silenced if a silence holds when it is
    found. Without options it lists what is silenced.
    """
    import tickwatch

    from services.command_line.printing_alerts import print_silences

    selector = tickwatch.Selector(exchanges, metrics, measures)
    selecting = bool(rules or comment or selector != tickwatch.Selector())
    if expire is not None:
        if selecting or length is not None or output != "table":
            raise click.UsageError("--expire ends a silence; give it alone.")
        ask(alerts, lambda client: client.expire_silence(expire))
        click.echo(f"ended {expire}")
    elif length is not None:
        created = ask(
            alerts, lambda client: client.create_silence(length, rules=rules, selector=selector, comment=comment)
        )
        print_silences([created], output)
    elif selecting:
        raise click.UsageError("say for how long: --for DURATION, as in --for 2h.")
    else:
        print_silences(ask(alerts, lambda client: client.list_rules()).silences, output)


@click.group(
    cls=Group, section="Alerts", examples=["tickwatch dead-letters list", "tickwatch dead-letters resend --all"]
)
def dead_letters() -> None:
    """Look after notifications that were given up.

    Their receiver has refused them, or has not taken them for as long as it is tried.
    """


@dead_letters.command(
    name="list", examples=["tickwatch dead-letters list", "tickwatch dead-letters list --output json"]
)
@limit_option(1_000_000)
@output_option
@alerts_option
def list_dead_letters(limit: int, output: str, alerts: str) -> None:
    """List them, the newest first; not those that are queued."""
    from services.command_line.printing_alerts import print_dead_letters

    async def collect(client: tickwatch.AlertClient) -> list[tickwatch.DeadLetter]:
        return await _first(limit, client.list_dead_letters())

    print_dead_letters(ask(alerts, collect), output)


@dead_letters.command(
    examples=["tickwatch dead-letters resend --all", "tickwatch dead-letters resend --all --alerts 127.0.0.1:50052"]
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@alerts_option
def resend(ids: tuple[str, ...], alerts: str, *, everything: bool) -> None:
    """Queue them for sending anew: those of these ids, or all."""
    if bool(ids) == everything:
        raise click.UsageError("give either ids, as `tickwatch dead-letters list` shows them, or --all.")
    count = ask(alerts, lambda client: client.resend_dead_letters(ids))
    click.echo(f"queued {count}")


async def _first(count: int, items: AsyncGenerator[_Item, None]) -> list[_Item]:
    """Return the first so many; pages beyond them are not asked for."""
    found = []
    async with aclosing(items):
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    return found


def ask(
    address: str,
    question: Callable[[tickwatch.AlertClient], Coroutine[Any, Any, _Answer]],
    timeout_seconds: float = 5.0,
) -> _Answer:
    """Put a question to an alert service; turn its refusal into one line with a hint."""
    import tickwatch

    from services.command_line import asking

    client = tickwatch.AlertClient(address, timeout_seconds=timeout_seconds, credentials=credentials())
    return asking.ask(client, address, "--alerts", question)
