"""What was measured, as a page of Markdown: ratios first, because they hold on other machines too.

The part under `## Remarks` is written by hand; writing the page anew keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.statistics import Goal, Spread

REMARKS = "## Remarks\n"
_METHOD = """\
- Every server runs in processes of its own, started and stopped by the benchmark, on loopback, on the same cores as the
  load. All hold the same seeded data, and before anything is timed every server's answer is compared with numpy's.
- Servers are measured in turns, A B C, A B C, after a warm-up of each. A figure is the median of the rounds (in
  brackets the least and the greatest); a ratio is taken round by round, then its median.
- gRPC is called by h2load and HTTP by wrk, both with keep-alive connections and one call at a time on each; 16 clients
  are 16 connections of one thread. An answer of an unexpected size is a failure. `influxdb-client` and what is marked
  "Python" run in the benchmark's own process.
- The gRPC floor is the faster, round by round, of grpcio's asyncio and thread-pool (8) servers whose generic handler
  returns the very bytes that ours returned.
- Server CPU per call is user and system time of all the server's processes, from /proc, over the calls of 16 clients.
- Ours answers a repeated request from bytes prepared once a slot. The tables "never asked before" ask something else
  in each call, so that every answer is made; VictoriaMetrics is asked with `nocache=1` throughout.
- VictoriaMetrics' `export` returns raw samples without a query engine; its LIST (`/api/v1/series`) reads the index,
  not values: the less work is counted for the peer.
- A shared machine drifts: ratios within 10 to 20 % of a limit are to be read as equal to it.
"""


@dataclass(slots=True)
class Table:
    """A table of absolute figures."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(slots=True)
class Report:
    """Collects what the sections find."""

    goals: list[Goal] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def goal(self, goal: Goal) -> None:
        """Add a goal and print it at once: a full run takes a while."""
        self.goals.append(goal)
        print(f"  {goal.name}: {number(goal.measured)} ({goal.bound.value} {goal.limit:g}): {goal.verdict}", flush=True)

    def table(self, table: Table) -> None:
        """Add a table and print it at once."""
        self.tables.append(table)
        print("\n".join(["", table.title, *(" | ".join(row) for row in (table.header, *table.rows)), ""]), flush=True)

    def skip(self, what: str, reason: object) -> None:
        """Say what was not measured."""
        self.skipped.append(f"{what}: {reason}")
        print(f"  skipped: {what}: {reason}", flush=True)

    def render(self, *, versions: Sequence[tuple[str, str]], command: str, remarks: str = "") -> str:
        """Return the page."""
        lines = ["# Benchmarks", "", f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.", ""]
        lines += ["## Goals", "", "Ratios of figures measured side by side.", ""]
        header = ["what", "goal", "measured", "spread", "verdict"]
        lines += _markdown(header, [_goal_row(goal) for goal in self.goals])
        if self.skipped:
            lines += ["", "Not measured:", "", *(f"- {each}" for each in self.skipped)]
        if remarks:
            lines += ["", remarks.strip()]
        lines += ["", "## Figures"]
        for table in self.tables:
            lines += ["", f"### {table.title}", "", *([table.note, ""] if table.note else [])]
            lines += _markdown(table.header, table.rows)
        lines += ["", "## Method", "", _METHOD.strip(), "", "## Versions and machine", ""]
        lines += [*_markdown(["what", "which"], versions), ""]
        return "\n".join(lines)


def kept_remarks(page: Path) -> str:
    """Return the hand-written part of an earlier page, or nothing."""
    if not page.exists():
        return ""
    _, found, rest = page.read_text(encoding="utf-8").partition(REMARKS)
    return found + rest.partition("\n## ")[0] if found else ""


def number(spread: Spread, *, factor: float = 1.0) -> str:
    """Return a median with its spread in brackets, in another unit where a factor is given."""
    scaled = spread.scaled(factor)
    return f"{_short(scaled.median)} ({_short(scaled.low)}..{_short(scaled.high)})"


def _short(value: float) -> str:
    """Return three significant digits, thousands with separators."""
    if abs(value) >= 1000:
        return f"{round(value):,}"
    digits = f"{value:.3g}"
    return f"{value:.0f}" if "e" in digits and abs(value) >= 1 else digits


def _goal_row(goal: Goal) -> list[str]:
    verdict = goal.verdict if goal.met else f"**{goal.verdict}**"
    name = f"{goal.name} ({goal.detail})" if goal.detail else goal.name
    measured = goal.measured
    spread = f"{_short(measured.low)}..{_short(measured.high)}"
    return [name, f"{goal.bound.value} {goal.limit:g}", _short(measured.median), spread, verdict]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
