"""Events as people and programs get them: columns made into objects, with a message, in the one order that holds.

Pure. An event's text depends on the rule and the evidence alone, so that it is the same wherever it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from services.alerter.evaluation.messages import message_of
from services.alerter.evaluation.states import KINDS, REASONS, EventColumns, State
from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, EventKind, ResolvedReason
from services.core.model import Slot
from services.core.rules import Rule

_KIND_ORDER = {kind: place for place, kind in enumerate((*KINDS, EventKind.WITHDRAWN))}


def to_events(columns: EventColumns, state: State, rule: Rule) -> list[Event]:
    """Return the events of columns by slot, by subject's key and by kind; `state` is any of that evaluation."""
    columns = columns.ordered(state.ranks)
    name, version, severity, labels, subjects = rule.name, rule.version, rule.severity, rule.labels, state.subjects
    events = [
        Event(
            KINDS[kind],
            name,
            version,
            severity,
            subjects[subject],
            Slot(slot),
            Slot(opened),
            value,
            baseline,
            ratio,
            threshold,
            points,
            reason=REASONS[reason],
            labels=labels,
        )
        for kind, subject, slot, opened, value, baseline, ratio, threshold, points, reason in zip(
            columns.kinds.tolist(),
            columns.subjects.tolist(),
            columns.slots.tolist(),
            columns.opened.tolist(),
            columns.values.tolist(),
            columns.baselines.tolist(),
            columns.ratios.tolist(),
            columns.thresholds.tolist(),
            columns.points.tolist(),
            columns.reasons.tolist(),
            strict=True,
        )
    ]
    for event in events:
        _tell(rule, event)
    return events


def opening_event(state: State, rule: Rule, place: int) -> Event:
    """Return the event that opened the episode of a subject, by its place in the state."""
    rows, opened = state.rows, Slot(int(state.rows.opened[place]))
    event = Event(
        EventKind.BREACH,
        rule.name,
        rule.version,
        rule.severity,
        state.subjects[place],
        opened,
        opened,
        value=float(rows.value[place]),
        baseline=float(rows.baseline[place]),
        ratio=float(rows.ratio[place]),
        threshold=float(rows.threshold[place]),
        point_count=int(rows.points[place]),
        labels=rule.labels,
    )
    _tell(rule, event)
    return event


def removal_event(episode: OpenEpisode, slot: int) -> Event:
    """Return the event that ends an episode because its rule or its series is no more, from this slot on."""
    opening = episode.opening
    return Event(
        EventKind.RESOLVED,
        opening.rule,
        opening.rule_version,
        opening.severity,
        opening.subject,
        Slot(slot),
        opening.opened_slot,
        reason=ResolvedReason.REMOVED,
        message=f"{opening.subject.name} is no longer watched by {opening.rule}",
        labels=opening.labels,
    )


def event_order(event: Event) -> tuple[int, str, str, int]:
    """Return what events of one evaluation are ordered by: slot, rule, subject, kind."""
    return (event.slot, event.rule, event.subject.key, _KIND_ORDER[event.kind])


def merged(by_rule: Sequence[Sequence[Event]]) -> list[Event]:
    """Return the events of several rules, of each in their order, in the order of all."""
    some = [events for events in by_rule if events]
    return list(some[0]) if len(some) == 1 else sorted(chain.from_iterable(some), key=event_order)


def _tell(rule: Rule, event: Event) -> None:
    """Give an event that nobody has seen yet its message; `dataclasses.replace` takes as long as all the rest."""
    object.__setattr__(event, "message", message_of(rule, event))
