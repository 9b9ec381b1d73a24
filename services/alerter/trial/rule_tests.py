"""Tests of rules: series written as short text, and the events that a rule must make of them, no more and no fewer.

Run by the same steps as live evaluation. Pure; `rule_test_file` reads the tests from files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from services.alerter.evaluation.events import to_events
from services.alerter.evaluation.messages import number_text
from services.alerter.evaluation.steps import Block, history, restore, step
from services.alerter.streams.filtering import changes_episode
from services.core.breaches import Event, EventKind, ResolvedReason, Subject
from services.core.model import Floats, Series, Slot
from services.core.rules import Rule

_EXACTNESS = 1e-9
"""How far a number may lie from the one expected, relatively: people write 3.333333333."""

Expectable = str | float | bool

FIELDS: Mapping[str, Callable[[Event, int], Expectable]] = {
    "opening": lambda event, _: event.opening,
    "opened": lambda event, start: event.opened_slot - start,
    "value": lambda event, _: event.value,
    "baseline": lambda event, _: event.baseline,
    "ratio": lambda event, _: event.ratio,
    "threshold": lambda event, _: event.threshold,
    "points": lambda event, _: event.point_count,
    "reason": lambda event, _: event.reason.value if event.reason else "",
    "message": lambda event, _: event.message,
}
"""What may be expected of an event beside minute, kind and series, each from the event and the test's first slot."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An event that must come; only the fields that are given are compared."""

    minute: int
    """Counted from the first value."""
    kind: EventKind
    subject: Subject
    fields: Mapping[str, Expectable] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, str, str]:
        """What it is matched by."""
        return (self.minute, self.subject.key, self.kind.value)


@dataclass(frozen=True, slots=True)
class RuleTest:
    """A rule, what it is shown, and what it must say."""

    name: str
    where: str
    """FILE:LINE."""
    rule: Rule
    series: Mapping[Series, Floats]
    """By series its values, NaN where there is no point; the first of each is of minute 0."""
    expected: tuple[Expected, ...]
    start: Slot
    """The slot of minute 0."""
    episodes_only: bool = False
    """Whether breaches within an episode are left out."""


def run(test: RuleTest) -> list[str]:
    """Return how what the rule says differs from what is expected, a line each; nothing where it does not."""
    found = {(event.slot - test.start, event.subject.key, event.kind.value): event for event in _events(test)}
    expected = {each.key: each for each in test.expected}
    lines: list[str] = []
    for key in sorted({*found, *expected}):
        event, wanted = found.get(key), expected.get(key)
        if event is None and wanted is not None:
            lines.append(f"missing:    {_wanted_text(wanted)}")
        elif wanted is None and event is not None:
            lines.append(f"unexpected: {_event_text(event, test.start, FIELDS)}")
        elif event is not None and wanted is not None:
            lines += _differences(event, wanted, test.start)
    return lines


def _events(test: RuleTest) -> list[Event]:
    """Evaluate the rule over all minutes of the longest series; the others end with missing slots."""
    series = [each for each in test.series if test.rule.selector.selects(each)]
    if not series:
        return []
    before, length = history(test.rule), max(len(values) for values in test.series.values())
    table = np.full((len(series), before + length), np.nan)
    for row, each in enumerate(series):
        values = test.series[each]
        table[row, before : before + len(values)] = values
    block = Block(Slot(test.start - before), table)
    state = restore(test.rule, series, test.start - 1, block, expected_from=test.start)
    state, columns = step(state, block, block.end - 1, test.rule)
    return [event for event in to_events(columns, state, test.rule) if not test.episodes_only or changes_episode(event)]


def _differences(event: Event, wanted: Expected, start: int) -> list[str]:
    wrong = [name for name, value in wanted.fields.items() if not _same(value, FIELDS[name](event, start))]
    if not wrong:
        return []
    return [f"expected:   {_wanted_text(wanted)}", f"got:        {_event_text(event, start, wrong)}"]


def _same(wanted: Expectable, got: Expectable) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(wanted, got, rel_tol=_EXACTNESS)
    return wanted == got


def _wanted_text(wanted: Expected) -> str:
    return _text(wanted.minute, wanted.kind, wanted.subject, wanted.fields)


def _event_text(event: Event, start: int, names: Mapping[str, object] | list[str]) -> str:
    """Return an event in a line, with these fields as far as they apply."""
    values = {name: FIELDS[name](event, start) for name in names}
    applying = {
        name: value
        for name, value in values.items()
        if value != "" and not (isinstance(value, float) and math.isnan(value))
    }
    return _text(event.slot - start, event.kind, event.subject, applying)


def _text(minute: int, kind: EventKind, subject: Subject, fields: Mapping[str, Expectable]) -> str:
    described = ", ".join(f"{name} {_value_text(value)}" for name, value in fields.items())
    return f"minute {minute}: {kind.value} of {subject.name}" + (f": {described}" if described else "")


def _value_text(value: Expectable) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, str) else number_text(value)


KINDS = {kind.value: kind for kind in (EventKind.BREACH, EventKind.STALE, EventKind.RESOLVED)}
REASONS = {reason.value: reason.value for reason in ResolvedReason if reason is not ResolvedReason.REMOVED}
