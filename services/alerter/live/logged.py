"""What the log says of each subject under each rule in the last day: what late points are compared with.

A withdrawn event counts as never logged. Pure; whoever reads or appends entries passes them in.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, EventKind, Subject
from services.core.model import Slot


class LoggedEvents:
    """Events by rule and subject, each in the order of slots; those withdrawn left out."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, Subject], dict[str, Event]] = {}

    def add(self, events: Iterable[Event]) -> None:
        """Take events in the order of the log."""
        for event in events:
            of_subject = self._events.setdefault((event.rule, event.subject), {})
            if event.kind is EventKind.WITHDRAWN:
                of_subject.pop(event.withdrawn_id, None)
            else:
                of_subject[event.id] = event

    def forget_before(self, slot: int) -> None:
        """Drop what lies before a slot, but for the openings of episodes that are not over."""
        for key, events in list(self._events.items()):
            over = {event.opened_slot for event in events.values() if event.kind is EventKind.RESOLVED}
            kept = {
                name: event
                for name, event in events.items()
                if event.slot >= slot or (event.opening and event.opened_slot not in over)
            }
            if kept:
                self._events[key] = kept
            else:
                del self._events[key]

    def since(self, rule: str, subject: Subject, slot: int) -> dict[str, Event]:
        """Return the events of a subject under a rule at or after a slot, by id."""
        return {name: each for name, each in self._events.get((rule, subject), {}).items() if each.slot >= slot}

    def after(self, slot: int) -> list[Event]:
        """Return the events of later slots, rule by rule and subject by subject."""
        return [event for events in self._events.values() for event in events.values() if event.slot > slot]

    def all_open_before(self, slot: Slot) -> Iterable[OpenEpisode]:
        """Return all episodes that were open right before a slot."""
        found = (self.open_before(rule, subject, slot) for rule, subject in self._events)
        return (episode for episode in found if episode is not None)

    def open_before(self, rule: str, subject: Subject, slot: int) -> OpenEpisode | None:
        """Return the episode of a subject that was open right before a slot."""
        past = [event for event in self._events.get((rule, subject), {}).values() if event.slot < slot]
        newest = max((event.opened_slot for event in past), default=None)
        episode = sorted(
            (event for event in past if event.opened_slot == newest),
            key=lambda event: (event.slot, event.kind is not EventKind.BREACH),
        )
        opening = next((event for event in episode if event.opening), None)
        if opening is None or any(event.kind is EventKind.RESOLVED for event in episode):
            return None
        breaches = [event for event in episode if event.kind is EventKind.BREACH]
        stale = episode[-1].kind is EventKind.STALE
        return OpenEpisode(opening, stale, len(breaches), breaches[-1].slot)
