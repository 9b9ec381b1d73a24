"""What an event says to people: the rule's own template filled in, or a sentence of the rule's kind.

Pure, and made of the evidence alone: the same event reads the same wherever it was found.
"""

from __future__ import annotations

import functools
import math

from services.core.breaches import Event, EventKind, ResolvedReason
from services.core.model import slot_time
from services.core.rules import Frozen, Missing, Ratio, Rule

_HOUR, _DAY = 60, 1440


def message_of(rule: Rule, event: Event) -> str:
    """Return the message of an event of this rule.

    A template is written for breaches; what else happens is said before it.
    """
    if not rule.message:
        return _sentence(rule, event)
    subject = event.subject
    text = rule.message.format(
        metric=subject.metric or subject.exchange,
        measure=subject.measure.value if subject.measure else "every measure",
        value=number_text(event.value),
        baseline=number_text(event.baseline),
        ratio=ratio_text(event.ratio),
        threshold=number_text(event.threshold),
        points=event.point_count,
        time=time_text(event.slot),
        rule=rule.name,
        severity=rule.severity.name.lower(),
    )
    if event.kind is EventKind.BREACH:
        return text
    return f"{event.kind.value}{f' ({event.reason.value})' if event.reason else ''}: {text}"


def number_text(value: float) -> str:
    """Return a number with ten significant digits at most; none where it does not apply."""
    return f"{value:.10g}" if math.isfinite(value) else "none"


def ratio_text(value: float) -> str:
    """Return a ratio with three significant digits at most; none where it does not apply."""
    return f"{value:.3g}" if math.isfinite(value) else "none"


def time_text(slot: int) -> str:
    """Return a slot's start, as in 2026-11-24T12:00Z."""
    return f"{slot_time(slot):%Y-%m-%dT%H:%MZ}"


@functools.cache
def duration_text(slots: int) -> str:
    """Return a number of slots as rules files write it: 90m, 2h, 1d."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h")):
        if slots % size == 0:
            return f"{slots // size}{unit}"
    return f"{slots}m"


def _sentence(rule: Rule, event: Event) -> str:
    if event.kind is EventKind.STALE:
        since = time_text(event.opened_slot)
        return f"{event.subject.name} has had no point for {_minutes(event.point_count)}; out of line since {since}"
    return _breach(rule, event) if event.kind is EventKind.BREACH else _resolved(rule, event)


def _breach(rule: Rule, event: Event) -> str:
    name, points = event.subject.name, event.point_count
    match rule.condition:
        case Ratio(window=window):
            return (
                f"{name} is {ratio_text(event.ratio)} times its average of the last {duration_text(window)}: "
                f"{number_text(event.value)} against {number_text(event.baseline)} ({points} points)"
            )
        case Missing():
            if not event.subject.metric:
                return f"{name}: no series has had a point for {_minutes(points)}"
            return f"{name} has had no point for {_minutes(points)}"
        case Frozen():
            return f"{name} has been {number_text(event.value)} for {points} points in a row"
        case _:
            side = "above" if event.value > event.threshold else "below"
            return f"{name} is {number_text(event.value)}, {side} {number_text(event.threshold)}"


def _resolved(rule: Rule, event: Event) -> str:
    name, value, baseline = event.subject.name, number_text(event.value), number_text(event.baseline)
    match rule.condition:
        case Ratio() if event.reason is ResolvedReason.REBASED:
            return f"{name} has kept its new level: its average is {baseline} now"
        case Ratio():
            return f"{name} is back in line: {value}; its average was {baseline}"
        case Missing():
            return f"{name} has points again, after {_minutes(event.point_count)} without"
        case Frozen():
            return f"{name} moves again: {value}, after {event.point_count} points of {baseline}"
        case _:
            return f"{name} is back in line: {value}"


def _minutes(slots: int) -> str:
    return f"{slots} minute{'' if slots == 1 else 's'}"
