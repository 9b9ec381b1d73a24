"""An event as a row of the live view: short enough for one line, with what the breach was measured by.

Pure: it takes the Python client's events, and knows nothing of the screen they are on.
"""

from __future__ import annotations

import datetime as dt

import tickwatch
from rich.text import Text

from services.command_line.printing import number, short
from services.command_line.printing_alerts import SEVERITY_COLOURS

EVENT_COLUMNS = ("Time", "Event", "Metric", "Measure", "Severity", "Why", "Rule")

_REASONS = {
    "calm": "points are back in line",
    "rebased": "the new level is the average now",
    "data_returned": "data came back",
    "removed": "the rule or series is no more",
}


def event_cells(event: tickwatch.Event, rule: tickwatch.Rule | None) -> tuple[str | Text, ...]:
    """Return a cell for each of `EVENT_COLUMNS`; `rule` is the one that found the event, None if it holds no more."""
    opens = event.opening
    return (
        Text(clock(event.time), "dim"),
        Text("opened" if opens else event.kind, "bold" if opens else "green" if event.kind == "resolved" else "dim"),
        event.metric or event.exchange,
        Text(event.measure or "all", "dim"),
        Text(event.severity, SEVERITY_COLOURS.get(event.severity, "")),
        Text(_why(event, rule)),
        Text(event.rule, "dim"),
    )


def clock(moment: dt.datetime) -> str:
    """Write the hour and minute, in UTC."""
    return f"{moment.astimezone(dt.UTC):%H:%M}"


def right(text: str, style: str = "") -> Text:
    """Return text that stands at the right of its column, as figures do."""
    return Text(text, style, justify="right")


def _why(event: tickwatch.Event, rule: tickwatch.Rule | None) -> str:
    if event.kind == "resolved":
        return _REASONS.get(event.resolved_reason or "", "")
    # The message of a ratio that the rule does not word itself says this at length.
    own = rule is None or not isinstance(rule.condition, tickwatch.Ratio) or rule.message != ""
    if own or event.ratio is None or event.value is None or event.baseline is None:
        return event.message
    return f"x{number(event.ratio, digits=3)}  {short(event.value)} / {short(event.baseline)}"
