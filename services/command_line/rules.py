"""The commands for people who write rules, and who wonder about them: `tickwatch rules …` and `tickwatch explain`.

Those that take files need no service. As in `cli`, what a command needs is imported within it.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from services.command_line.alerts import ask
from services.command_line.arguments import FILE, MEASURE, TIME
from services.command_line.helping import Command, Group
from services.command_line.options import (
    alerts_option,
    end_option,
    limit_option,
    metric_argument,
    output_option_without_csv,
    since_option,
    start_option,
)
from services.core.clock import SystemClock
from services.core.words import Measure

if TYPE_CHECKING:
    from pathlib import Path

    import tickwatch

EXIT_FAILED, EXIT_USAGE = 1, 2

_REPLAY_SECONDS = 120.0
"""A month of many series takes a while to be read."""

_FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)


def register(group: click.Group) -> None:
    """Add the commands to `tickwatch`."""
    group.add_command(rules)
    group.add_command(explain)


@click.group(
    cls=Group, section="Rules", examples=["tickwatch rules default > rules.yaml", "tickwatch rules check rules.yaml"]
)
def rules() -> None:
    """Write rules, check them, test them, and see how they fare."""


@rules.command(
    examples=[
        "tickwatch rules check rules.yaml",
        "tickwatch rules default > mine.yaml && tickwatch rules check rules.yaml mine.yaml",
    ]
)
@_FILES
def check(files: tuple[Path, ...]) -> None:
    """Tell every problem in files of rules, with its line.

    Exit codes: 0 there is none, 2 there are some.
    """
    from services.core.catalog.rules_file import read_rules
    from services.core.errors import InvalidSettingError

    failed = False
    for file in files:
        try:
            count = len(read_rules(file))
        except InvalidSettingError as error:
            failed = True
            click.echo(str(error), err=True)
        else:
            click.echo(f"{file}: {count} rule{'' if count == 1 else 's'}, no problem")
    sys.exit(EXIT_USAGE if failed else 0)


@rules.command(examples=["tickwatch rules default", "tickwatch rules default > rules.yaml"])
def default() -> None:
    """Write the built-in rules, to begin a file with.

    They hold where alerter.rules of the settings names no file.
    """
    from services.core.catalog.rules_file import DEFAULT_RULES_FILE

    click.echo(DEFAULT_RULES_FILE.read_text(encoding="utf-8"), nl=False)


@rules.command(examples=["tickwatch rules test tests.yaml", "tickwatch rules test tests.yaml --verbose"])
@_FILES
@click.option("--verbose", is_flag=True, help="Name the tests that pass, too.")
def test(files: tuple[Path, ...], *, verbose: bool) -> None:
    """Run tests of rules.

    A test has series, and the events that a rule must make of them, no more and no less.

    Exit codes: 0 all pass, 1 some fail, 2 a file has mistakes.
    """
    from services.alerter.trial.rule_test_file import read_rule_tests
    from services.alerter.trial.rule_tests import run
    from services.core.errors import InvalidSettingError

    passed, failed, wrong = 0, 0, False
    for file in files:
        try:
            tests = read_rule_tests(file)
        except InvalidSettingError as error:
            wrong = True
            click.echo(str(error), err=True)
            continue
        for each in tests:
            lines = run(each)
            passed, failed = passed + (not lines), failed + bool(lines)
            if lines or verbose:
                click.echo(f"{each.where}: {each.name} [{each.rule.name}]: {'failed' if lines else 'passed'}")
            for line in lines:
                click.echo(f"    {line}")
    click.echo(f"{passed} passed, {failed} failed")
    sys.exit(EXIT_USAGE if wrong else EXIT_FAILED if failed else 0)


@rules.command(name="list", examples=["tickwatch rules list", "tickwatch rules list --output json"])
@output_option_without_csv
@alerts_option
def list_rules(output: str, alerts: str) -> None:
    """List the rules in force, and how they fare.

    What they are about, what is open, how often they fired, what is silenced, and why a later reading of them failed.
    """
    from services.command_line.printing_rules import print_rules

    print_rules(ask(alerts, lambda client: client.list_rules()), output)


@rules.command(
    examples=["tickwatch rules replay missing", "tickwatch rules replay missing --file rules.yaml --since 7d"]
)
@click.argument("name", metavar="RULE")
@click.option("--file", type=FILE, help="Take the rule from this file; else the one in force.")
@since_option
@start_option
@end_option
@limit_option(10_000)
@output_option_without_csv
@alerts_option
def replay(
    name: str,
    file: Path | None,
    since: timedelta | None,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    output: str,
    alerts: str,
) -> None:
    """Run a rule over stored history.

    It shows what the rule would have fired, and how many times a day, over the last 24 hours, or as long a time as is
    said, at most 31 days. Nothing is changed and nobody notified; so a rule can be tried before it is in force.
    """
    from services.command_line.printing_rules import print_rule_test

    if since is not None and start is not None:
        raise click.UsageError("give either --since or --start.")
    if since is not None:
        end = end or datetime.fromtimestamp(SystemClock().now() // 60 * 60).astimezone()
        start = end - since
    rule = name if file is None else _rule_of(file, name)
    found = ask(alerts, lambda client: client.test_rule(rule, start=start, end=end, max_events=limit), _REPLAY_SECONDS)
    print_rule_test(found, output)


@click.command(
    cls=Command,
    section="Rules",
    examples=[
        "tickwatch explain missing KRAKEN:BTCUSD price",
        "tickwatch explain three-times-the-hour KRAKEN:BTCUSD volume_1m --output json",
    ],
)
@click.argument("rule", metavar="RULE")
@metric_argument
@click.argument("measure", type=MEASURE, metavar="MEASURE")
@click.option("--at", type=TIME, metavar="TIME", help="The minute; else the last one evaluated.")
@output_option_without_csv
@alerts_option
def explain(rule: str, metric: str, measure: Measure, at: datetime | None, output: str, alerts: str) -> None:
    """Say why a rule did or did not fire on a series at a minute.

    RULE is the name of one that `tickwatch rules list` lists, MEASURE price, volume, change_absolute, change_percentage
    or volume_1m.
    """
    from services.command_line.printing_rules import print_explanation

    print_explanation(ask(alerts, lambda client: client.explain(rule, metric, measure.value, at)), output)


def _rule_of(file: Path, name: str) -> tickwatch.Rule:
    """Return a rule of a file as the client takes it; raises InvalidSettingError, or BadParameter for its name."""
    from tickwatch import alert_messages

    from services.core.catalog.rules_file import read_rules
    from services.core.rpc.convert_alerts import to_wire_rule
    from services.core.suggesting import nearest

    found = {rule.name: rule for rule in read_rules(file)}
    if name not in found:
        hint = nearest(name, found) if found else "the file has none"
        raise click.BadParameter(f"{file} has no rule {name!r}; {hint}", param_hint="RULE")
    return alert_messages.rule_of(to_wire_rule(found[name]))
