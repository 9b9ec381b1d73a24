"""Events as people and programs get them: columns made into objects, with a message, in the one order that holds.

Pure. An event's text depends on the rule and the evidence alone, so that it is the same wherever it is made.
"""

from __future__ import annotations

from typing import Any

from services.alerter.evaluation.messages import message_of
from services.alerter.evaluation.states import BREACH, KINDS, REASONS, EventColumns, State
from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, EventKind, ResolvedReason, Subject
from services.core.model import Slot
from services.core.rules import Rule

_KIND_ORDER = {kind: place for place, kind in enumerate((*KINDS, EventKind.WITHDRAWN))}


def to_events(columns: EventColumns, state: State, rule: Rule) -> list[Event]:
    """Return the events of columns, in their order; `state` is any state of the evaluation that found them."""
    fields = zip(
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
    return [
        _event(
            rule,
            kind,
            state.subjects[subject],
            slot,
            opened,
            value=value,
            baseline=baseline,
            ratio=ratio,
            threshold=threshold,
            point_count=points,
            reason=REASONS[reason],
        )
        for kind, subject, slot, opened, value, baseline, ratio, threshold, points, reason in fields
    ]


def opening_event(state: State, rule: Rule, place: int) -> Event:
    """Return the event that opened the episode of a subject, by its place in the state."""
    rows, opened = state.rows, int(state.rows.opened[place])
    return _event(
        rule,
        BREACH,
        state.subjects[place],
        opened,
        opened,
        value=float(rows.value[place]),
        baseline=float(rows.baseline[place]),
        ratio=float(rows.ratio[place]),
        threshold=float(rows.threshold[place]),
        point_count=int(rows.points[place]),
    )


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


def _event(rule: Rule, kind: int, subject: Subject, slot: int, opened: int, **evidence: Any) -> Event:  # noqa: ANN401  # Event's own fields
    event = Event(
        KINDS[kind],
        rule.name,
        rule.version,
        rule.severity,
        subject,
        Slot(slot),
        Slot(opened),
        labels=rule.labels,
        **evidence,
    )
    # Nobody has seen it yet; `dataclasses.replace` takes as long as all the rest, and a slot may have hundreds of them.
    object.__setattr__(event, "message", message_of(rule, event))
    return event
