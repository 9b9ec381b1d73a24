"""Which events a caller has asked for: one filter for streams and for lists. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from services.core.breaches import Event, EventKind, Severity, event_id


@dataclass(frozen=True, slots=True)
class EventFilter:
    """All conditions must hold; an empty set lets everything through."""

    rules: frozenset[str] = frozenset()
    """By name."""
    metrics: frozenset[str] = frozenset()
    """By name or glob; what concerns a whole exchange fits as EXCHANGE: with nothing behind."""
    min_severity: Severity = Severity.INFO
    episodes_only: bool = False
    """Only what changes an episode."""
    late: bool = True
    """Whether what late points changed is let through too; what ends an episode always is."""

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self == EventFilter()

    def concerns(self, event: Event) -> bool:
        """Whether rule, metric and severity are among those asked for, whatever the event tells."""
        return (
            event.severity >= self.min_severity
            and (not self.rules or event.rule in self.rules)
            and (not self.metrics or self._fits(event.subject.metric or f"{event.subject.exchange}:"))
        )

    def passes(self, event: Event) -> bool:
        """Whether the caller gets this event."""
        return (
            self.concerns(event)
            and (not self.episodes_only or changes_episode(event))
            and (self.late or not event.late or ends_episode(event))
        )

    def _fits(self, name: str) -> bool:
        return name in self.metrics or any(fnmatchcase(name, glob) for glob in self.metrics)


def ends_episode(event: Event) -> bool:
    """Whether its episode is no longer open: it is resolved, or the breach that opened it was none."""
    return event.kind is EventKind.RESOLVED or (
        event.kind is EventKind.WITHDRAWN
        and event.withdrawn_id == event_id(event.rule, event.subject, event.opened_slot, EventKind.BREACH)
    )


def changes_episode(event: Event) -> bool:
    """Whether it opens its episode, makes it stale, ends it, or takes one of these back."""
    if event.kind is not EventKind.WITHDRAWN:
        return event.opening or event.kind is not EventKind.BREACH
    further = event_id(event.rule, event.subject, event.slot, EventKind.BREACH)
    return ends_episode(event) or event.withdrawn_id != further
