"""Between AlertService's messages and the values of rules and breaches; `from_wire_x` checks, `to_wire_x` cannot fail.

Beside `convert`, whose rules hold here too: whoever sends an event on, in an answer or a stream, encodes it here.
"""

from __future__ import annotations

import math

from tickwatch.v1 import alert_pb2 as wire
from tickwatch.v1 import query_pb2 as query_wire

from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, EventKind, ResolvedReason, Severity
from services.core.rpc.convert import MEASURE_TO_WIRE, from_wire_choice, to_wire_time

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


def to_wire_number(value: float) -> float | None:
    """Return a number that applies, or None."""
    return value if math.isfinite(value) else None
