"""The options that several commands have, each written once, so that a name means the same wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.command_line.arguments import DURATION, SERVER, TIME, CountType
from services.command_line.connecting import credential_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _metrics(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    from services.command_line.completing import metrics

    return metrics(context, incomplete)


metric_argument = click.argument("metric", metavar="METRIC", shell_complete=_metrics)
output_option = click.option(
    "--output", type=click.Choice(["table", "json", "csv"]), default="table", help="For people, or for a pipe."
)
output_option_without_csv = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", help="For people, or for a pipe."
)
since_option = click.option("--since", type=DURATION, metavar="DURATION", help="How far back, as in 6h.")
start_option = click.option("--start", type=TIME, metavar="TIME", help="The first minute, as in 2026-11-24T12:00Z.")
end_option = click.option("--end", type=TIME, metavar="TIME", help="The minute after the last.")


def refuse_two_starts(since: timedelta | None, start: datetime | None) -> None:
    """Raise UsageError where both options say when to begin."""
    if since is not None and start is not None:
        raise click.UsageError("give either --since or --start.")


def limit_option(most: int) -> Callable[[_Command], _Command]:
    """Add how many rows are shown."""
    return click.option("--limit", type=CountType(1, most), default=20, show_default=True, help="How many to show.")


def listen_option(setting: str) -> Callable[[_Command], _Command]:
    """Add where a service answers."""
    return click.option("--listen", metavar="HOST:PORT", help=f"Where to answer; else {setting} of the settings.")


_server = click.option(
    "--server",
    type=SERVER,
    envvar="TICKWATCH_SERVER",
    show_envvar=True,
    default="127.0.0.1:50051",
    show_default=True,
    help="The query service, HOST:PORT or dns:///NAME:PORT.",
)
_alerts = click.option(
    "--alerts",
    type=SERVER,
    envvar="TICKWATCH_ALERTS",
    show_envvar=True,
    default="127.0.0.1:50052",
    show_default=True,
    help="The alert service, HOST:PORT or dns:///NAME:PORT.",
)


def server_option(command: _Command) -> _Command:
    """Add what says where the query service is, and how to come in."""
    return _server(credential_options(command))


def alerts_option(command: _Command) -> _Command:
    """Add what says where the alert service is, and how to come in."""
    return _alerts(credential_options(command))


def both_services_options(command: _Command) -> _Command:
    """Add what says where both are, and how to come in."""
    return _server(_alerts(credential_options(command)))
