"""Explanations as values and as sentences: why a rule did or did not fire on a series at a slot.

Pure, and made of the evidence alone; `explaining` finds that out.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.alerter.evaluation.messages import duration_text, number_text, ratio_text, time_text
from services.core.breaches import Event, EventKind
from services.core.model import Series, Slot
from services.core.rules import Frozen, Missing, Ratio, Rule, Threshold


class Standing(enum.Enum):
    """Where a series stands with a rule after a slot."""

    OK = enum.auto()
    PENDING = enum.auto()
    """Out of line, but for fewer points in a row than the rule asks for."""
    OPEN = enum.auto()
    STALE = enum.auto()
    """An episode is open, and points have stopped coming."""
    INSUFFICIENT_DATA = enum.auto()
    NOT_APPLICABLE = enum.auto()
    """The average is zero or, in literal mode, below it."""
    NO_POINT = enum.auto()
    NOT_SELECTED = enum.auto()


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a point was measured by, as in Event. Numbers that do not apply are NaN."""

    value: float = math.nan
    baseline: float = math.nan
    ratio: float = math.nan
    threshold: float = math.nan
    point_count: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a series stood, and why."""

    slot: Slot
    after: Standing
    before: Standing
    breached: bool
    text: str
    """For people, in a sentence."""
    numbers: Numbers
    episode_id: str = ""
    """Of the episode that was open after the slot; empty: none."""


def not_selected(rule: Rule, series: Series, slot: Slot, *, tracked: bool) -> Explanation:
    """Say that a rule has nothing to do with a series."""
    name = _name(series)
    why = f"the selector of {rule.name} does not fit {name}"
    if rule.selector.selects(series) and not tracked:
        why = f"{name} is not in the catalog, and {rule.name} is about what is expected there"
    return Explanation(
        slot,
        Standing.NOT_SELECTED,
        Standing.NOT_SELECTED,
        breached=False,
        text=f"not selected: {why}",
        numbers=Numbers(),
    )


def sentence(
    rule: Rule, series: Series, slot: Slot, numbers: Numbers, *, after: Standing, events: Sequence[Event]
) -> str:
    """Return the explanation in a sentence; `events` are what the slot told of the series or its exchange."""
    when = time_text(slot)
    if events:
        fired = any(event.kind is EventKind.BREACH for event in events)
        return f"{'fired' if fired else 'did not fire'} at {when}: {'; '.join(event.message for event in events)}"
    return f"did not fire at {when}: {_why_not(rule, _name(series), numbers, after)}{_COURSES.get(after, '')}"


_COURSES = {
    Standing.OPEN: "; an episode that opened before is still open",
    Standing.STALE: "; an episode is open, and points have stopped coming",
}


def _why_not(rule: Rule, name: str, numbers: Numbers, after: Standing) -> str:
    value, count = number_text(numbers.value), numbers.point_count
    if isinstance(rule.condition, Missing):
        return _why_not_missing(rule.condition, name, value, count)
    if math.isnan(numbers.value):
        return f"{name} has no point in this slot"
    if after is Standing.PENDING:
        return f"{name} is out of line at {value}, but for fewer than {rule.for_points} points in a row"
    match rule.condition:
        case Ratio() as ratio:
            return _why_not_ratio(ratio, name, numbers)
        case Threshold(above=above, below=below):
            pairs = (("above", above), ("below", below))
            limits = [f"not {word} {number_text(limit)}" for word, limit in pairs if limit is not None]
            return f"{name} is {value}, {' and '.join(limits)}"
        case Frozen(points=points):
            return f"{name} is {value}, equal for {count} of the {points} points in a row that the rule asks for"


def _why_not_missing(missing: Missing, name: str, value: str, count: int) -> str:
    if not count:
        return f"{name} has a point, {value}"
    if count >= missing.slots:
        return f"{name} has had no point for {count} slots in a row, of which the first {missing.slots} were the breach"
    return f"{name} has had no point for {count} of the {missing.slots} slots in a row that the rule asks for"


def _why_not_ratio(ratio: Ratio, name: str, numbers: Numbers) -> str:
    value, baseline, window = number_text(numbers.value), number_text(numbers.baseline), duration_text(ratio.window)
    if numbers.point_count < ratio.min_points:
        return f"the {window} before {name} holds {numbers.point_count} points, fewer than {ratio.min_points}"
    if not numbers.baseline > 0:
        return f"the average before {name} is {baseline}: there is nothing to compare {value} with"
    return (
        f"{name} is {value}, {ratio_text(numbers.ratio)} times its average of the last {window} "
        f"({baseline}, of {numbers.point_count} points), not above {number_text(numbers.threshold)}"
    )


def _name(series: Series) -> str:
    return f"{series.metric} {series.measure.value}"
