"""Breaches as people like to read them, and as pipes do.

It takes what the Python client yields and writes to standard output; JSON has the contract's field names (alert.proto).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
import tickwatch

from services.command_line.printing import minute, print_rows, utc

SEVERITY_COLOURS = {"info": "cyan", "warning": "yellow", "critical": "red"}
_CLEAR_LINE = "\r\x1b[2K"


class LinePrinter:
    """One line an event; where lines can be written over, a last one that says how far rules have been evaluated."""

    def __init__(self, address: str, *, rewrites: bool) -> None:
        self._address = address
        self._live = rewrites
        self._pulse_shown = False

    def show(self, item: tickwatch.Snapshot | tickwatch.Event | tickwatch.Bookmark) -> None:
        """Print what a watch has yielded."""
        match item:
            case tickwatch.Snapshot():
                count = len(item.episodes)
                episodes = f"{count} episode{'' if count == 1 else 's'} open" if count else "nothing is open"
                self._line(click.style(f"watching {self._address}: {episodes}", dim=True))
                for episode in sorted(item.episodes, key=lambda one: one.opening.time):
                    self._line(_episode_line(episode))
                self._pulse(item.evaluated_time)
            case tickwatch.Event():
                self._line(event_line(item))
            case tickwatch.Bookmark():
                self._pulse(item.evaluated_time)

    def retry(self, error: tickwatch.Error, pause_seconds: float) -> None:
        """Tell of a break on standard error."""
        self._clear()
        click.echo(f"interrupted: {error.problem}; going on in {pause_seconds:.1f} s", err=True)

    def close(self) -> None:
        """Leave the terminal tidy."""
        self._clear()

    def _line(self, text: str) -> None:
        self._clear()
        click.echo(text)

    def _pulse(self, evaluated: datetime) -> None:
        if self._live:
            self._clear()
            click.echo(click.style(f"evaluated up to {minute(evaluated)} UTC", dim=True), nl=False)
            self._pulse_shown = True

    def _clear(self) -> None:
        if self._pulse_shown:
            click.echo(_CLEAR_LINE, nl=False)
            self._pulse_shown = False


class JsonPrinter:
    """One JSON object a line: a cursor, and under snapshot, event or bookmark what the stream's message holds."""

    def show(self, item: tickwatch.Snapshot | tickwatch.Event | tickwatch.Bookmark) -> None:
        """Print what a watch has yielded."""
        document: dict[str, Any] = {"cursor": item.cursor}
        match item:
            case tickwatch.Snapshot():
                document["snapshot"] = {
                    "episodes": [
                        {
                            "id": episode.id,
                            "state": episode.state,
                            "opening": episode.opening.to_document(),
                            "breach_count": episode.breach_count,
                            "last_breach_time": utc(episode.last_breach_time),
                        }
                        for episode in item.episodes
                    ],
                    "evaluated_time": utc(item.evaluated_time),
                }
            case tickwatch.Event():
                document["event"] = item.to_document()
            case tickwatch.Bookmark():
                document["bookmark"] = {"evaluated_time": utc(item.evaluated_time)}
        click.echo(json.dumps(document, allow_nan=False))

    def retry(self, error: tickwatch.Error, pause_seconds: float) -> None:
        """Tell of a break on standard error."""
        click.echo(f"interrupted: {error.problem}; going on in {pause_seconds:.1f} s", err=True)

    def close(self) -> None:
        """Nothing is held."""


def event_line(event: tickwatch.Event) -> str:
    """Return an event in a line: when, what, how grave, on which series, why, by which rule."""
    marks = "".join(f", {word}" for word, holds in (("late", event.late), ("silenced", event.silenced)) if holds)
    what = "opened" if event.opening else event.kind
    return _line(event, click.style(f"{what:<9}", bold=event.opening), _why(event), f"[{event.rule}{marks}]")


def print_breaches(events: Sequence[tickwatch.Event], output: str) -> None:
    """Write events: a line each, or all that is known of them."""
    if output == "table":
        for event in events:
            click.echo(event_line(event))
        if not events:
            click.echo("No breach is in the log.")
        return
    rows = [event.to_document() for event in events]
    if output == "csv":
        for row in rows:
            row["labels"] = json.dumps(row["labels"])
    columns = tuple(rows[0]) if rows else ("id",)
    print_rows(rows, columns, output)


def print_silences(silences: Sequence[tickwatch.Silence], output: str) -> None:
    """Write silences: a line each, or all that is known of them."""
    if output == "json":
        print_rows(map(silence_row, silences), (), output)
        return
    for silence in silences:
        selector = silence.selector
        parts = (
            ("rule", silence.rules),
            ("exchange", selector.exchanges),
            ("metric", selector.metrics),
            ("measure", selector.measures),
        )
        selected = "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names) or "everything"
        comment = f" ({_plain(silence.comment)})" if silence.comment else ""
        click.echo(f"{silence.id}  until {minute(silence.end)} UTC  {_plain(selected)}{comment}")
    if not silences:
        click.echo("Nothing is silenced.")


def silence_row(silence: tickwatch.Silence) -> dict[str, Any]:
    """Return what is known of a silence, for programs."""
    return {
        "id": silence.id,
        "rules": list(silence.rules),
        "selector": asdict(silence.selector),
        "start_time": utc(silence.start),
        "end_time": utc(silence.end),
        "comment": silence.comment,
    }


def print_dead_letters(letters: Sequence[tickwatch.DeadLetter], output: str) -> None:
    """Write dead letters: a line each, or all that is known of them."""
    if output == "table":
        for letter in letters:
            tried = f"tried {letter.attempt_count} time{'' if letter.attempt_count == 1 else 's'}"
            click.echo(
                f"{letter.id}  given up {minute(letter.failed_time)} UTC  {_plain(letter.receiver)}: {tried}, "
                f"{_plain(letter.error)}\n    {event_line(letter.event)}"
            )
        if not letters:
            click.echo("There are no dead letters.")
        return
    rows: list[dict[str, Any]] = [
        {
            "id": letter.id,
            "receiver": letter.receiver,
            "attempt_count": letter.attempt_count,
            "error": letter.error,
            "failed_time": utc(letter.failed_time),
            "event": letter.event.to_document() if output == "json" else json.dumps(letter.event.to_document()),
        }
        for letter in letters
    ]
    print_rows(rows, ("id", "receiver", "attempt_count", "error", "failed_time", "event"), output)


def _episode_line(episode: tickwatch.Episode) -> str:
    count = f"{episode.breach_count} breach{'' if episode.breach_count == 1 else 'es'}"
    why = f"{_subject(episode.opening)}: {count}, the last at {minute(episode.last_breach_time)}"
    return _line(episode.opening, f"{episode.state:<9}", why, f"[{episode.opening.rule}]")


def _line(event: tickwatch.Event, what: str, why: str, rule: str) -> str:
    severity = click.style(f"{event.severity:<8}", fg=SEVERITY_COLOURS.get(event.severity))
    return f"{minute(event.time)}  {what}  {severity}  {why}  {click.style(rule, dim=True)}"


def _subject(event: tickwatch.Event) -> str:
    return f"{event.metric} {event.measure}" if event.measure else event.metric or event.exchange


def _why(event: tickwatch.Event) -> str:
    """Return what people need to know, with the series in it; the product's own messages begin with that."""
    subject, message = _subject(event), _plain(event.message)
    return message if message.startswith(subject) else f"{subject}: {message}"


def _plain(text: str) -> str:
    """Return text that anybody may have written as what it cannot do without: printable characters."""
    return "".join(character if character.isprintable() else " " for character in text)
