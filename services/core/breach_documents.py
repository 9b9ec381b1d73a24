"""Events and the alerter's state as JSON: the one form for stores, checkpoints and webhooks.

Keys are the contract's field names (alert.proto), times ISO 8601 in UTC, numbers that do not apply null. It reads what
it has written; whoever reads it elsewhere should ignore keys that he does not know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.core.breaches import Event, EventKind, ResolvedReason, Severity, Subject
from services.core.words import Measure, Slot, slot_at, slot_time

NO_HISTORY = Slot(0)
"""As the opening of a log: no slot lies before it."""


@dataclass(frozen=True, slots=True)
class OpenEpisode:
    """An episode that is not over, and what its evaluation must know to go on."""

    opening: Event
    stale: bool
    breach_count: int
    """How many points have broken the rule so far, from 1."""
    last_breach_slot: Slot


@dataclass(frozen=True, slots=True)
class AlertState:
    """What a checkpoint of the log says: log and points together are all that evaluation goes on from."""

    evaluated: Slot
    """Every slot up to and with this one has been evaluated for every series."""
    began: Slot
    """The first slot that was ever evaluated."""
    rules: Mapping[str, str]
    """The versions of the rules in force, by name."""
    episodes: tuple[OpenEpisode, ...] = ()
    ahead: Mapping[str, Slot] = field(default_factory=dict)
    """Where series are ahead of `evaluated`, by the subject's key: the last slot evaluated for them."""
    mark: str = ""
    """Up to where in the store's write order points have been evaluated; empty where nobody knows."""
    live_from: Slot = NO_HISTORY
    """The slot in progress when the log was opened. Slots before it, from `began` on, are its history: evaluated like
    all others, but nobody is notified of them, and a series is missing in them only once it has had a point."""
    blank: bool = False
    """Whether no point has come yet; the first ones say where the history begins."""
    awaited: Mapping[str, Slot] = field(default_factory=dict)
    """Since when series without any point so far are expected, by the subject's key."""


def event_document(event: Event) -> dict[str, Any]:
    """Return an event as a JSON object."""
    return {
        "id": event.id,
        "kind": event.kind.value,
        "rule": event.rule,
        "rule_version": event.rule_version,
        "severity": event.severity.name.lower(),
        "labels": dict(event.labels),
        "exchange": event.subject.exchange,
        "metric": event.subject.metric,
        "measure": event.subject.measure.value if event.subject.measure else None,
        "slot_time": _time(event.slot),
        "episode_id": event.episode_id,
        "opened_time": _time(event.opened_slot),
        "opening": event.opening,
        "late": event.late,
        "value": _number(event.value),
        "baseline": _number(event.baseline),
        "ratio": _number(event.ratio),
        "threshold": _number(event.threshold),
        "point_count": event.point_count,
        "resolved_reason": event.reason.value if event.reason else None,
        "withdrawn_id": event.withdrawn_id or None,
        "message": event.message,
        "silenced": event.silenced,
    }


def event_from_document(document: Mapping[str, Any]) -> Event:
    """Return the event of a JSON object; raises KeyError or ValueError for what `event_document` has not made."""
    return Event(
        kind=EventKind(document["kind"]),
        rule=document["rule"],
        rule_version=document["rule_version"],
        severity=Severity[document["severity"].upper()],
        subject=Subject(
            document["exchange"],
            document["metric"],
            Measure(document["measure"]) if document["measure"] else None,
        ),
        slot=_slot(document["slot_time"]),
        opened_slot=_slot(document["opened_time"]),
        value=_float(document["value"]),
        baseline=_float(document["baseline"]),
        ratio=_float(document["ratio"]),
        threshold=_float(document["threshold"]),
        point_count=document["point_count"],
        late=document["late"],
        reason=ResolvedReason(document["resolved_reason"]) if document["resolved_reason"] else None,
        withdrawn_id=document["withdrawn_id"] or "",
        message=document["message"],
        labels=dict(document["labels"]),
        silenced=document["silenced"],
    )


def event_text(event: Event) -> str:
    """Return an event as JSON text; the same event always gives the same text."""
    return json.dumps(event_document(event), sort_keys=True, separators=(",", ":"), allow_nan=False)


def event_from_text(text: str) -> Event:
    """Return the event of a JSON text made by `event_text`."""
    return event_from_document(json.loads(text))


def state_text(state: AlertState) -> str:
    """Return a checkpoint's state as JSON text."""
    document = {
        "evaluated": state.evaluated,
        "began": state.began,
        "rules": dict(state.rules),
        "ahead": dict(state.ahead),
        "mark": state.mark,
        "live_from": state.live_from,
        "blank": state.blank,
        "awaited": dict(state.awaited),
        "episodes": [
            {
                "opening": event_document(episode.opening),
                "stale": episode.stale,
                "breach_count": episode.breach_count,
                "last_breach_slot": episode.last_breach_slot,
            }
            for episode in state.episodes
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def state_from_text(text: str) -> AlertState:
    """Return the state of a JSON text made by `state_text`."""
    document = json.loads(text)
    return AlertState(
        evaluated=Slot(document["evaluated"]),
        began=Slot(document["began"]),
        rules=document["rules"],
        ahead={key: Slot(slot) for key, slot in document["ahead"].items()},
        mark=document["mark"],
        live_from=Slot(document.get("live_from", NO_HISTORY)),
        blank=document.get("blank", False),
        awaited={key: Slot(slot) for key, slot in document.get("awaited", {}).items()},
        episodes=tuple(
            OpenEpisode(
                event_from_document(episode["opening"]),
                episode["stale"],
                episode["breach_count"],
                Slot(episode["last_breach_slot"]),
            )
            for episode in document["episodes"]
        ),
    )


def _time(slot: int) -> str:
    return f"{slot_time(slot):%Y-%m-%dT%H:%M:%SZ}"


def _slot(text: str) -> Slot:
    return slot_at(datetime.fromisoformat(text).timestamp())


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
