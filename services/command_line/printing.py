"""Answers as people like to read them, and as pipes do.

It takes what the Python client returns and writes to standard output; it asks nothing and computes nothing but what a
reader would have to work out in the head. Tables are for eyes and may change; JSON and CSV are for programs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from services.command_line.tables import table
from services.core.clock import SystemClock

if TYPE_CHECKING:
    import tickwatch

    from services.collector.progress import Progress

_PLOT_HEIGHT = 16
_PLOT_WIDTH, _LEAST_PLOT_WIDTH, _WIDTH_ELSEWHERE = 110, 30, 80
_LINE_EVERY_SECONDS = 5.0


def print_metrics(metrics: Sequence[tickwatch.Metric], output: str, *, exchange: str | None = None) -> None:
    """Write the metrics and what their last 24 hours hold; `exchange` is the one that was asked for, None: all."""
    if output == "table":
        _metrics_table(metrics, exchange)
        return
    rows = [
        {
            "metric": metric.name,
            "measure": summary.measure,
            "last_time": utc(summary.last_time),
            "last_value": summary.last_value,
            "point_count": summary.point_count,
            "coverage": summary.coverage,
        }
        for metric in metrics
        for summary in metric.measures
    ]
    print_rows(rows, ("metric", "measure", "last_time", "last_value", "point_count", "coverage"), output)


def print_history(history: tickwatch.History, output: str) -> None:
    """Write one series: a plot with its figures, or every value (null or empty where there is no point)."""
    if output == "table":
        _history_plot(history)
        return
    rows = [
        {"time": utc(history.start + place * history.interval), "value": None if math.isnan(value) else value}
        for place, value in enumerate(history.floats)
    ]
    print_rows(rows, ("time", "value"), output)


def print_ranking(ranked: tickwatch.Rankings, output: str) -> None:
    """Write the ranking, best first."""
    if output == "table":
        _ranking_table(ranked)
        return
    rows = [
        {
            "rank": ranking.rank,
            "metric": ranking.metric,
            "value": ranking.value,
            "point_count": ranking.point_count,
            "coverage": ranking.coverage,
        }
        for ranking in ranked.rankings
    ]
    print_rows(rows, ("rank", "metric", "value", "point_count", "coverage"), output)


@contextlib.contextmanager
def showing_progress(title: str) -> Iterator[Callable[[Progress], None]]:
    """Show a long job on standard error: a bar with rate and time left, or plain lines where that is no terminal."""
    if not sys.stderr.isatty():
        yield _plain_progress(title)
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TextColumn("{task.fields[message]}"),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(title, rate="", message="")

        def show(progress: Progress) -> None:
            display.update(
                task, completed=progress.done, total=progress.total, rate=_rate(progress), message=progress.message
            )

        yield show


def _plain_progress(title: str) -> Callable[[Progress], None]:
    last = float("-inf")

    def show(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            share = progress.done / max(1, progress.total)
            sys.stderr.write(f"{title}: {share:.0%}, {_rate(progress)}, {progress.message}\n")

    return show


def _rate(progress: Progress) -> str:
    rate = f"{progress.rate:,.0f} {progress.unit}/s"
    if progress.seconds_left is None:
        return rate
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return f"{rate}, {minutes}:{seconds:02} left"


def print_rows(rows: Iterable[dict[str, Any]], columns: Sequence[str], output: str) -> None:
    """Write rows for programs: json is one list of objects, csv has a header."""
    if output == "json":
        json.dump(list(rows), sys.stdout, allow_nan=False, indent=1)
        sys.stdout.write("\n")
        return
    import csv

    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _metrics_table(metrics: Sequence[tickwatch.Metric], exchange: str | None) -> None:
    if not metrics and exchange:
        click.echo(f"No metric of {exchange} has a point in the last 24 hours. `tickwatch list` shows those that have.")
        return
    if not metrics:
        click.echo("No metric has a point in the last 24 hours. Is a collector running?")
        return
    titles = ("Metric", "Price", "24 h", "Vol 24 h", "Vol 1 m", "Points", "Newest")
    rows = [_metric_row(metric) for metric in metrics]
    spare = ("Points", "Vol 24 h", "Vol 1 m", "Newest")
    click.echo(table(titles, rows, left={"Metric"}, spare=spare, width=_terminal_width(math.inf)), nl=False)


def _metric_row(metric: tickwatch.Metric) -> tuple[str, ...]:
    by_measure = {summary.measure: summary for summary in metric.measures}
    price = by_measure.get("price")
    change = by_measure.get("change_percentage")
    return (
        click.style(metric.name, bold=True),
        number(price.last_value) if price else "-",
        click.style(f"{change.last_value:+.2f} %", fg="green" if change.last_value >= 0 else "red") if change else "-",
        *(short(by_measure[name].last_value) if name in by_measure else "-" for name in ("volume", "volume_1m")),
        f"{(price or metric.measures[0]).coverage:.0%}",
        _age(max(summary.last_time for summary in metric.measures)),
    )


def _ranking_table(ranked: tickwatch.Rankings) -> None:
    titles = ("Rank", "Metric", f"{ranked.statistic.replace('_', ' ').capitalize()} of {ranked.measure}", "Points")
    rows = [
        (str(ranking.rank), ranking.metric, number(ranking.value), f"{ranking.point_count} ({ranking.coverage:.0%})")
        for ranking in ranked.rankings
    ]
    click.echo(table(titles, rows, left={"Metric"}, spare=("Points",), width=_terminal_width(math.inf)), nl=False)
    if len(ranked.rankings) < ranked.ranked_count:
        click.echo(f"{len(ranked.rankings)} of {ranked.ranked_count} shown; more with --limit.")
    if ranked.unranked:
        click.echo(f"Not ranked, for want of points: {', '.join(ranked.unranked)}")


def _history_plot(history: tickwatch.History) -> None:
    from services.command_line.plotting import plot

    length = len(history.floats) * history.interval
    span = f"{minute(history.start)} to {minute(history.start + length)} UTC"
    click.echo(f"{click.style(history.metric, bold=True)} {history.measure}, {span}")
    present = [value for value in history.floats if not math.isnan(value)]
    if present:
        hours, width = (
            length.total_seconds() / 3600,
            max(_LEAST_PLOT_WIDTH, int(min(_terminal_width(_WIDTH_ELSEWHERE), _PLOT_WIDTH))),
        )
        label = functools.partial(number, digits=5)
        click.echo(plot(history.floats, hours, width=width, height=_PLOT_HEIGHT, label=label), nl=False)
        figures = {
            "last": present[-1],
            "least": min(present),
            "mean": math.fsum(present) / len(present),
            "greatest": max(present),
        }
        click.echo("   ".join(f"{name} {number(value)}" for name, value in figures.items()))
    missing = sum((gap.end - gap.start).total_seconds() for gap in history.missing) / 60
    click.echo(f"{history.coverage:.1%} of the minutes have a point, {missing:.0f} have none.")
    if history.missing and len(history.missing) <= 3:  # noqa: PLR2004  # as many as fit on a line
        click.echo("Missing: " + ", ".join(f"{minute(gap.start)}-{minute(gap.end)}" for gap in history.missing))


def _terminal_width(elsewhere: float) -> float:
    """Return how many characters a line of the terminal has, `elsewhere` where there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or elsewhere
    except OSError:
        return elsewhere


def number(value: float, digits: int = 6) -> str:
    """Write a number with about so many digits, thousands parted."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = min(8, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


def short(value: float) -> str:
    """Write a number with four digits and a letter for thousands, millions, billions or more, as the dashboard does."""
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{number(value / factor, digits=4)} {letter}"
    return number(value, digits=4)


def _age(moment: datetime) -> str:
    minutes = (SystemClock().now() - moment.timestamp()) / 60
    if minutes < 2:  # noqa: PLR2004  # the newest slot that can be complete
        return "just now"
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"  # noqa: PLR2004  # two hours


def utc(moment: datetime) -> str:
    """Write a moment as ISO 8601, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def minute(moment: datetime) -> str:
    """Write a moment for people, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
