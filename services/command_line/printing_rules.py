"""Rules, replays and explanations as people like to read them, and as pipes do.

It takes what the Python client returns and writes to standard output; JSON has the contract's field names, those of
alert.proto.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click
import tickwatch

from services.command_line.printing import minute, utc
from services.command_line.printing_alerts import event_line, print_silences, silence_row

_COUNTS = ("breach_count", "episode_count", "breaches_per_day", "episodes_per_day", "point_count", "series_count")


def print_rules(found: tickwatch.Rules, output: str) -> None:
    """Write the rules in force and how they fare."""
    if output == "json":
        _print_json(
            {
                "rules": [_status_row(status) for status in found.rules],
                "silences": [silence_row(silence) for silence in found.silences],
                "loaded_time": utc(found.loaded_time),
                "load_error": found.load_error,
            }
        )
        return
    for status in found.rules:
        _print_status(status)
    if not found.rules:
        click.echo("No rule is in force.")
    if found.silences:
        click.echo("Silences:")
        print_silences(found.silences, output)
    click.echo(f"read at {minute(found.loaded_time)} UTC")
    if found.load_error:
        click.echo(click.style("a later reading failed, and the rules above stay in force:", fg="red"))
        click.echo(found.load_error)


def print_rule_test(found: tickwatch.RuleTest, output: str) -> None:
    """Write what a rule would have fired."""
    if output == "json":
        window = {"start_time": utc(found.window.start), "end_time": utc(found.window.end)}
        counts = (
            "breach_count",
            "episode_count",
            "breaches_per_day",
            "episodes_per_day",
            "point_count",
            "series_count",
        )
        _print_json(
            {
                "events": [event.to_document() for event in found.events],
                **{name: getattr(found, name) for name in counts},
                "window": window,
            }
        )
        return
    for event in found.events:
        click.echo(event_line(event))
    if found.breach_count > sum(event.kind == "breach" for event in found.events):
        click.echo("… more with --limit")
    span = f"{minute(found.window.start)} to {minute(found.window.end)} UTC"
    episodes, breaches = _counted(found.episode_count, "episode"), _counted(found.breach_count, "breach", "breaches")
    click.echo(
        f"{episodes} of {breaches} in {span}; "
        f"a day: episodes {found.episodes_per_day:.3g}, breaches {found.breaches_per_day:.3g}"
    )
    click.echo(f"{_counted(found.point_count, 'point')} of {found.series_count} series evaluated")


def print_explanation(found: tickwatch.Explanation, output: str) -> None:
    """Write why a rule did or did not fire."""
    if output == "json":
        row = {("slot_time" if name == "time" else name): value for name, value in asdict(found).items()}
        _print_json({**row, "slot_time": utc(found.time)})
        return
    click.echo(found.explanation)
    click.echo(f"before: {found.state_before}, after: {found.state}; rule version {found.rule_version}")


def _print_status(status: tickwatch.RuleStatus) -> None:
    rule = status.rule
    title = click.style(rule.name, bold=True)
    fired = f"{_counted(status.breach_count_24h, 'breach', 'breaches')} in 24 h"
    if status.last_breach_time is not None:
        fired += f", the last at {minute(status.last_breach_time)} UTC"
    silenced = f", silenced by {', '.join(status.silence_ids)}" if status.silence_ids else ""
    click.echo(f"{title}  {rule.severity}  {_condition_text(rule)}")
    click.echo(f"    {_selector_text(rule.selector)} ({status.series_count} now)")
    click.echo(f"    {_counted(status.open_count, 'episode')} open, {fired}{silenced}")


def _condition_text(rule: tickwatch.Rule) -> str:
    """Return a condition as a rules file has it."""
    given = {name: value for name, value in asdict(rule.condition).items() if value is not None}
    shown = ", ".join(f"{name}: {_value_text(value)}" for name, value in given.items())
    more = f", for_points: {rule.for_points}" if (rule.for_points or 1) > 1 else ""
    return f"{type(rule.condition).__name__.lower()}: {{{shown}}}{more}"


def _selector_text(selector: tickwatch.Selector) -> str:
    parts = [f"{name} {', '.join(globs)}" for name, globs in asdict(selector).items() if globs]
    return "; ".join(parts) or "all series"


def _value_text(value: object) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds() / 60:g}m"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _status_row(status: tickwatch.RuleStatus) -> dict[str, Any]:
    rule = status.rule
    condition = {
        name: f"{value.total_seconds():g}s" if isinstance(value, timedelta) else value
        for name, value in asdict(rule.condition).items()
        if value is not None
    }
    return {
        "rule": {
            "name": rule.name,
            "selector": asdict(rule.selector),
            "severity": rule.severity,
            "labels": dict(rule.labels),
            "message": rule.message,
            "for_points": rule.for_points,
            type(rule.condition).__name__.lower(): condition,
            "version": rule.version,
        },
        "series_count": status.series_count,
        "open_count": status.open_count,
        "last_breach_time": utc(status.last_breach_time) if status.last_breach_time else None,
        "breach_count_24h": status.breach_count_24h,
        "silence_ids": list(status.silence_ids),
    }


def _print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    click.echo(json.dumps(document, allow_nan=False, indent=1))


def _counted(count: int, word: str, plural: str = "") -> str:
    return f"{count:,} {word if count == 1 else plural or word + 's'}"
