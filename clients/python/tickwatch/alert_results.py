"""What the alert client takes and returns: plain values, no messages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tickwatch.results import TimeRange


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a series under a rule, with the evidence. What does not apply is None."""

    id: str
    """The same for the same rule, series, slot and kind wherever it is evaluated: whoever acts on events once, goes by
    it."""
    kind: str
    """breach, resolved, stale or withdrawn."""
    rule: str
    rule_version: str
    severity: str
    """info, warning or critical."""
    exchange: str
    metric: str
    """Empty where all of an exchange is missing."""
    measure: str | None
    time: dt.datetime
    """The slot of the point, or of the first slot at which it was true, in UTC."""
    episode_id: str
    opened_time: dt.datetime
    """The slot at which the episode opened."""
    opening: bool
    """Whether this event opens the episode."""
    late: bool
    """Whether it was found by a point that came after its slot had been evaluated."""
    value: float | None
    """In the measure's unit."""
    baseline: float | None
    """What the value was measured by: the window's mean, the number of a threshold, the frozen value."""
    ratio: float | None
    """The value over the baseline."""
    threshold: float | None
    """What the value had to exceed, or to stay above."""
    point_count: int
    """How many points the baseline is of, or how many in a row are missing or frozen."""
    resolved_reason: str | None
    """calm, rebased, data_returned or removed; in resolved only."""
    withdrawn_id: str
    """Which event was none; in withdrawn only."""
    message: str
    """For people."""
    silenced: bool
    labels: Mapping[str, str]
    cursor: str = ""
    """Resumes a watch after this event; empty where it did not come from one."""

    def to_document(self) -> dict[str, Any]:
        """Return it as an object of JSON, as webhooks have it: the contract's field names, and null for what is not."""
        return {
            "id": self.id,
            "kind": self.kind,
            "rule": self.rule,
            "rule_version": self.rule_version,
            "severity": self.severity,
            "labels": dict(self.labels),
            "exchange": self.exchange,
            "metric": self.metric,
            "measure": self.measure,
            "slot_time": _text(self.time),
            "episode_id": self.episode_id,
            "opened_time": _text(self.opened_time),
            "opening": self.opening,
            "late": self.late,
            "value": self.value,
            "baseline": self.baseline,
            "ratio": self.ratio,
            "threshold": self.threshold,
            "point_count": self.point_count,
            "resolved_reason": self.resolved_reason,
            "withdrawn_id": self.withdrawn_id or None,
            "message": self.message,
            "silenced": self.silenced,
        }


def _text(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class BreachPage:
    """A part of the log of breaches."""

    events: tuple[Event, ...]
    """The newest first."""
    next_page_token: str
    """Gets the next page; empty on the last."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A run of breaches that is not over."""

    id: str
    state: str
    """open, or stale where points have stopped coming."""
    opening: Event
    breach_count: int
    """How many points have broken the rule so far."""
    last_breach_time: dt.datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stand as a watch begins."""

    cursor: str
    episodes: tuple[Episode, ...]
    """What is open and not among the events still to come."""
    evaluated_time: dt.datetime
    """Every slot before this time has been evaluated."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A sign of life: nothing else has happened."""

    cursor: str
    evaluated_time: dt.datetime
    """Every slot before this time has been evaluated."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series, by globs of the shell's kind (* and ?); an empty tuple selects all."""

    exchanges: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ratio:
    """Breached by a value strictly above `factor` times the mean of the same series over the window before it.

    None stands for the service's default, here and in the other conditions; what the service returns is filled in.
    """

    factor: float | None = None
    """3 by default."""
    window: dt.timedelta | None = None
    """1 hour by default; the new point is not in it."""
    min_points: int | None = None
    """How many points the window must hold; 10 by default."""
    mode: str | None = None
    """magnitude or literal; by default the one that fits the measure."""
    resolve_after: int | None = None
    """How many points in a row resolve an episode; 5 by default."""
    resolve_factor: float | None = None
    """They are at or below this many times the mean that held at the opening; 2 by default."""
    min_delta: float | None = None
    """By how much a value must differ from the mean besides, in the measure's unit; 0 by default."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Breached by a value strictly above or strictly below a number."""

    above: float | None = None
    below: float | None = None
    resolve_after: int | None = None
    """How many points in a row resolve an episode; 5 by default."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Breached by a tracked series without a point for so many slots in a row."""

    slots: int | None = None
    """3 by default."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Breached by a point that ends a run of so many equal points, and by each that follows it."""

    points: int | None = None
    """30 by default."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as a breach, on which series."""

    name: str
    condition: Ratio | Threshold | Missing | Frozen
    selector: Selector = Selector()
    severity: str | None = None
    """info, warning (the default) or critical."""
    labels: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    """The template of an event's message; empty for a text of the condition's kind."""
    for_points: int | None = None
    """How many points in a row must be out of line before an episode opens; 1 by default."""
    version: str = ""
    """A digest of all the above, of the service's making."""


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule in force and how it fares."""

    rule: Rule
    series_count: int
    """How many series it selects at present."""
    open_count: int
    """How many episodes are open, the stale ones included."""
    last_breach_time: dt.datetime | None
    """The slot of its last breach; None if it has not fired within the log."""
    breach_count_24h: int
    """How many points have broken it in the last 24 hours."""
    silence_ids: tuple[str, ...]
    """The silences that hold for it now."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A selection whose breaches are not notified for a while."""

    id: str
    rules: tuple[str, ...]
    """By name or by glob; empty for all."""
    selector: Selector
    start: dt.datetime
    end: dt.datetime
    comment: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force, and whether the last reading of them failed."""

    rules: tuple[RuleStatus, ...]
    """By name."""
    silences: tuple[Silence, ...]
    """Those that hold or are still to come, by their end."""
    loaded_time: dt.datetime
    """When the rules in force were read."""
    load_error: str
    """Why a later reading failed; empty if it did not."""


@dataclass(frozen=True, slots=True)
class RuleTest:
    """What a rule would have fired over stored history."""

    events: tuple[Event, ...]
    """In the order in which they would have been found; the first of them, where there are very many."""
    breach_count: int
    """How many points would have broken it."""
    episode_count: int
    """How many episodes would have opened."""
    breaches_per_day: float
    episodes_per_day: float
    point_count: int
    """How many points were evaluated."""
    series_count: int
    """How many series the rule selects."""
    window: TimeRange
    """The range that was evaluated."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a rule did or did not fire on a series at a slot. What does not apply is None."""

    time: dt.datetime
    """The slot."""
    state: str
    """Where the series stood after it: ok, pending, open, stale, insufficient_data, not_applicable, no_point or
    not_selected."""
    state_before: str
    breached: bool
    """Whether the slot's point broke the rule."""
    value: float | None
    baseline: float | None
    ratio: float | None
    threshold: float | None
    point_count: int
    rule_version: str
    explanation: str
    """For people, in a sentence."""
    episode_id: str
    """The episode that was open after the slot; empty if none was."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A notification that its receiver has refused, or has not taken for as long as it is tried."""

    id: str
    receiver: str
    event: Event
    """What it should have been told."""
    attempt_count: int
    error: str
    """What the receiver said last."""
    failed_time: dt.datetime
    """When it was given up."""
