"""What happens when a rule is broken, as values: events, episodes, and places in the log of breaches.

Pure, as the model is: it knows no store and no wire format, and nothing of how rules are evaluated.
"""

from __future__ import annotations

import enum
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.core.words import Measure, Slot

_NAMESPACE = uuid.UUID("0d6c9f0e-5b0b-5a53-9d6e-7c1f5e0b8a11")
"""Chosen once for good: other ids would make receivers take repeats for news."""


class Severity(enum.IntEnum):
    """How much a breach matters; ordered."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


class EventKind(enum.StrEnum):
    """What an event tells."""

    BREACH = "breach"
    """A point broke a rule; the first of an episode opens it."""
    RESOLVED = "resolved"
    """The episode is over."""
    STALE = "stale"
    """Points have stopped coming: the episode is open still, but nobody knows."""
    WITHDRAWN = "withdrawn"
    """A late point shows that an earlier event was none."""


class ResolvedReason(enum.StrEnum):
    """Why an episode is over."""

    CALM = "calm"
    """Enough points in a row were back in line."""
    REBASED = "rebased"
    """It has lasted as long as the rule's window: the new level is the average now."""
    DATA_RETURNED = "data_returned"
    """Points that were missing came, or frozen ones moved."""
    REMOVED = "removed"
    """The rule, or the series in the catalog, is no more."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about: a series or, where all of an exchange is missing, that exchange."""

    exchange: str
    metric: str = ""
    """EXCHANGE:PAIR; empty for a whole exchange."""
    measure: Measure | None = None

    @property
    def key(self) -> str:
        """What ids and orders are made of: exchange|metric|measure."""
        return f"{self.exchange}|{self.metric}|{self.measure or ''}"

    @property
    def name(self) -> str:
        """For people: KRAKEN:BTCUSD price, or KRAKEN."""
        return f"{self.metric} {self.measure}" if self.measure else self.metric or self.exchange


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a subject under a rule, with the evidence. Numbers that do not apply are NaN."""

    kind: EventKind
    rule: str
    rule_version: str
    severity: Severity
    subject: Subject
    slot: Slot
    """The slot of the point, or of the first slot at which it was true."""
    opened_slot: Slot
    """The slot at which the episode opened."""
    value: float = math.nan
    baseline: float = math.nan
    ratio: float = math.nan
    threshold: float = math.nan
    point_count: int = 0
    """How many points the baseline is of, or how many in a row are missing or frozen."""
    late: bool = False
    """Whether it was found by a point that came after its slot had been evaluated."""
    reason: ResolvedReason | None = None
    """In RESOLVED only."""
    withdrawn_id: str = ""
    """In WITHDRAWN only."""
    message: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    silenced: bool = False

    @property
    def opening(self) -> bool:
        """Whether it opens its episode."""
        return self.kind is EventKind.BREACH and self.slot == self.opened_slot

    @property
    def id(self) -> str:
        """The same wherever this rule is evaluated on these points: live, restarted, replicated, replayed."""
        if self.kind is EventKind.WITHDRAWN:  # of two events of one slot each may be withdrawn
            return str(uuid.uuid5(_NAMESPACE, f"withdrawn|{self.withdrawn_id}"))
        return event_id(self.rule, self.subject, self.slot, self.kind)

    @property
    def episode_id(self) -> str:
        """The id of the episode, the same for all its events."""
        return episode_id(self.rule, self.subject, self.opened_slot)


def event_id(rule: str, subject: Subject, slot: int, kind: EventKind) -> str:
    """Return an event's id: a UUID of version 5 (RFC 9562) over rule, subject, slot and kind."""
    return str(uuid.uuid5(_NAMESPACE, f"event|{rule}|{subject.key}|{slot}|{kind.value}"))


def episode_id(rule: str, subject: Subject, opened_slot: int) -> str:
    """Return an episode's id: a UUID of version 5 (RFC 9562) over rule, subject and the slot of its opening."""
    return str(uuid.uuid5(_NAMESPACE, f"episode|{rule}|{subject.key}|{opened_slot}"))


class Position(NamedTuple):
    """A place in a log of breaches, between entries: before entry `ordinal` of those appended in `slot`; ordered.

    `slot` is the slot up to which had been evaluated when the entry was appended; it never falls from one entry to the
    next. `ordinal` counts from 0 within it.
    """

    slot: Slot
    ordinal: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An event in its place: `position` is right before it."""

    position: Position
    event: Event

    @property
    def after(self) -> Position:
        """The place right after it."""
        return Position(self.position.slot, self.position.ordinal + 1)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a log goes and what its writer must know to go on."""

    end: Position
    """Entries before it are committed; what lies at or after it, if anything, has never been shown to anybody."""
    state: str
    """JSON, of the writer's own making; opaque to stores, at most 1 MB."""
