"""Between AlertService's messages and the values of rules and breaches; `from_wire_x` checks, `to_wire_x` cannot fail.

Beside `convert`, whose rules hold here too: whoever sends an event on, in an answer or a stream, encodes it here.
"""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.message import Message
from tickwatch.v1 import alert_pb2 as wire
from tickwatch.v1 import query_pb2 as query_wire

from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, EventKind, ResolvedReason, Severity
from services.core.errors import InvalidInputError
from services.core.model import DAY_SLOTS
from services.core.rpc.convert import (
    MEASURE_TO_WIRE,
    from_wire_choice,
    from_wire_slots,
    to_wire_duration,
    to_wire_time,
)
from services.core.rules import Condition, Frozen, Missing, Ratio, RatioMode, Rule, Selector, Threshold

SEVERITY_TO_WIRE: dict[Severity, wire.Severity.ValueType] = {
    Severity.INFO: wire.SEVERITY_INFO,
    Severity.WARNING: wire.SEVERITY_WARNING,
    Severity.CRITICAL: wire.SEVERITY_CRITICAL,
}
_SEVERITY_FROM_WIRE: dict[int, Severity] = {number: severity for severity, number in SEVERITY_TO_WIRE.items()}

_KIND_TO_WIRE: dict[EventKind, wire.EventKind.ValueType] = {
    EventKind.BREACH: wire.EVENT_KIND_BREACH,
    EventKind.RESOLVED: wire.EVENT_KIND_RESOLVED,
    EventKind.STALE: wire.EVENT_KIND_STALE,
    EventKind.WITHDRAWN: wire.EVENT_KIND_WITHDRAWN,
}
_REASON_TO_WIRE: dict[ResolvedReason | None, wire.ResolvedReason.ValueType] = {
    None: wire.RESOLVED_REASON_UNSPECIFIED,
    ResolvedReason.CALM: wire.RESOLVED_REASON_CALM,
    ResolvedReason.REBASED: wire.RESOLVED_REASON_REBASED,
    ResolvedReason.DATA_RETURNED: wire.RESOLVED_REASON_DATA_RETURNED,
    ResolvedReason.REMOVED: wire.RESOLVED_REASON_REMOVED,
}
_EPISODES_ONLY: dict[int, bool] = {
    wire.DELIVERY_UNSPECIFIED: False,
    wire.DELIVERY_EVERY_BREACH: False,
    wire.DELIVERY_EPISODES: True,
}


_MODE_TO_WIRE: dict[RatioMode, wire.RatioMode.ValueType] = {
    RatioMode.AUTO: wire.RATIO_MODE_UNSPECIFIED,
    RatioMode.MAGNITUDE: wire.RATIO_MODE_MAGNITUDE,
    RatioMode.LITERAL: wire.RATIO_MODE_LITERAL,
}
_MODE_FROM_WIRE: dict[int, RatioMode] = {number: mode for mode, number in _MODE_TO_WIRE.items()}


def from_wire_min_severity(number: int) -> Severity:
    """Return the least severity of a filter, all for the unspecified; raises InvalidInputError."""
    choices = {wire.SEVERITY_UNSPECIFIED: Severity.INFO, **_SEVERITY_FROM_WIRE}
    return from_wire_choice(choices, number, "min_severity", wire.Severity.Name)


def from_wire_delivery(number: int) -> bool:
    """Return whether only what changes an episode is wanted; raises InvalidInputError."""
    return from_wire_choice(_EPISODES_ONLY, number, "delivery", wire.Delivery.Name)


def to_wire_event(event: Event) -> wire.Event:
    """Return an event's message; numbers that do not apply are absent."""
    return wire.Event(
        id=event.id,
        kind=_KIND_TO_WIRE[event.kind],
        rule=event.rule,
        rule_version=event.rule_version,
        severity=SEVERITY_TO_WIRE[event.severity],
        labels=event.labels,
        exchange=event.subject.exchange,
        metric=event.subject.metric,
        measure=MEASURE_TO_WIRE[event.subject.measure] if event.subject.measure else query_wire.MEASURE_UNSPECIFIED,
        slot_time=to_wire_time(event.slot),
        episode_id=event.episode_id,
        opened_time=to_wire_time(event.opened_slot),
        opening=event.opening,
        late=event.late,
        value=to_wire_number(event.value),
        baseline=to_wire_number(event.baseline),
        ratio=to_wire_number(event.ratio),
        threshold=to_wire_number(event.threshold),
        point_count=event.point_count,
        resolved_reason=_REASON_TO_WIRE[event.reason],
        withdrawn_id=event.withdrawn_id,
        message=event.message,
        silenced=event.silenced,
    )


def to_wire_episode(episode: OpenEpisode) -> wire.Episode:
    """Return an open episode's message."""
    return wire.Episode(
        id=episode.opening.episode_id,
        state=wire.SERIES_STATE_STALE if episode.stale else wire.SERIES_STATE_OPEN,
        opening=to_wire_event(episode.opening),
        breach_count=episode.breach_count,
        last_breach_time=to_wire_time(episode.last_breach_slot),
    )


def from_wire_rule(asked: wire.Rule, field: str) -> Rule:
    """Return the rule of a message, its defaults filled in; raises InvalidInputError naming the wrong part of it."""
    try:
        return Rule(
            name=asked.name,
            condition=_from_wire_condition(asked),
            selector=from_wire_selector(asked.selector),
            severity=from_wire_choice(
                {wire.SEVERITY_UNSPECIFIED: Severity.WARNING, **_SEVERITY_FROM_WIRE},
                asked.severity,
                "severity",
                wire.Severity.Name,
            ),
            labels=dict(asked.labels),
            message=asked.message,
            for_points=asked.for_points or 1,
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"{field}.{error.field}", error.problem, error.hint) from error


def from_wire_selector(asked: wire.Selector) -> Selector:
    """Return the selector of a message; raises InvalidInputError for a glob that fits no measure."""
    return Selector(tuple(asked.exchanges), tuple(asked.metrics), tuple(asked.measures))


def to_wire_selector(selector: Selector) -> wire.Selector:
    """Return a selector's message."""
    return wire.Selector(exchanges=selector.exchanges, metrics=selector.metrics, measures=selector.measures)


def to_wire_rule(rule: Rule) -> wire.Rule:
    """Return a rule's message."""
    message = wire.Rule(
        name=rule.name,
        selector=to_wire_selector(rule.selector),
        severity=SEVERITY_TO_WIRE[rule.severity],
        labels=rule.labels,
        message=rule.message,
        for_points=rule.for_points,
        version=rule.version,
    )
    match rule.condition:
        case Ratio() as ratio:
            message.ratio.CopyFrom(
                wire.RatioCondition(
                    factor=ratio.factor,
                    window=to_wire_duration(ratio.window),
                    min_points=ratio.min_points,
                    mode=_MODE_TO_WIRE[ratio.mode],
                    resolve_after=ratio.resolve_after,
                    resolve_factor=ratio.resolve_factor,
                    min_delta=ratio.min_delta,
                )
            )
        case Threshold() as threshold:
            message.threshold.CopyFrom(
                wire.ThresholdCondition(
                    above=threshold.above, below=threshold.below, resolve_after=threshold.resolve_after
                )
            )
        case Missing() as missing:
            message.missing.CopyFrom(wire.MissingCondition(slots=missing.slots))
        case Frozen() as frozen:
            message.frozen.CopyFrom(wire.FrozenCondition(points=frozen.points))
    return message


def _from_wire_condition(asked: wire.Rule) -> Condition:
    match asked.WhichOneof("condition"):
        case "ratio":
            return _from_wire_ratio(asked.ratio)
        case "threshold":
            return Threshold(**_given(asked.threshold, "above", "below", "resolve_after"))
        case "missing":
            return Missing(**_given(asked.missing, "slots"))
        case "frozen":
            return Frozen(**_given(asked.frozen, "points"))
        case _:
            raise InvalidInputError("condition", "is required", "one of ratio, threshold, missing, frozen")


def _from_wire_ratio(asked: wire.RatioCondition) -> Ratio:
    given = _given(asked, "factor", "min_points", "resolve_after", "resolve_factor", "min_delta")
    if asked.HasField("window"):
        given["window"] = from_wire_slots(asked.window, "ratio.window", 2, DAY_SLOTS)
    mode = from_wire_choice(_MODE_FROM_WIRE, asked.mode, "ratio.mode", wire.RatioMode.Name)
    return Ratio.of(mode=mode, **given)


def _given(message: Message, *names: str) -> dict[str, Any]:
    """Return those of the fields that are present."""
    return {name: getattr(message, name) for name in names if message.HasField(name)}


def to_wire_number(value: float) -> float | None:
    """Return a number that applies, or None."""
    return value if math.isfinite(value) else None
