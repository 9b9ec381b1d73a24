"""What late points change: the stretch that they touch is evaluated again and compared with the log.

A breach that a late point makes is logged now, marked late; one that it unmakes is withdrawn. Ids tell which is which,
and what moves to an episode with another opening is withdrawn and logged again.
It reads the store for the past that nobody holds in memory any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.alerter.columns_of import block_of
from services.alerter.evaluation import history, open_episodes, restore, step
from services.alerter.events import event_order, to_events
from services.alerter.logged import LoggedEvents
from services.alerter.states import STALE_SLOTS, subject_of
from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, EventKind, Subject
from services.core.model import Series, Slot, Slots, Window
from services.core.rules import Rule
from services.core.store.base import MetricReader


@dataclass(frozen=True, slots=True)
class Correction:
    """What evaluating again has found."""

    events: tuple[Event, ...]
    """To be appended, in order: withdrawals, then what is found now."""
    subjects: frozenset[Subject]
    """Whose episodes are to be replaced,"""
    episodes: tuple[OpenEpisode, ...]
    """by these."""


def evaluate_again(
    rule: Rule,
    series: Sequence[Series],
    since: Slot,
    through: Slots,
    *,
    reader: MetricReader,
    logged: LoggedEvents,
    began: Slot,
) -> Correction:
    """Evaluate these series under a rule from the slot `since` through what was evaluated of each.

    For a missing rule `series` are all of one exchange that the rule selects.
    """
    first, last = since - max(history(rule), STALE_SLOTS), int(through.max())
    block = block_of(reader, series, Window(Slot(first), Slot(last + 1)))
    just_before = block.values[:, since - STALE_SLOTS - first : since - first]
    silent = {subject_of(each) for each, absent in zip(series, np.isnan(just_before), strict=True) if absent.all()}
    subjects = [subject_of(each) for each in series]
    everybody = {*subjects, *(Subject(each.exchange) for each in subjects)}
    before = [
        dataclasses.replace(episode, stale=subject in silent)
        for subject in sorted(everybody, key=lambda each: each.key)
        if (episode := logged.open_before(rule.name, subject, since))
    ]
    state = restore(rule, series, since - 1, block, began=began, episodes=before)
    state, found = step(state, block, through, rule)
    events = {event.id: event for event in to_events(found, state, rule)}
    known = {name: event for subject in everybody for name, event in logged.since(rule.name, subject, since).items()}
    # An event whose episode has another opening now is another event, though under the same id.
    same = {name for name, event in known.items() if name in events and events[name].opened_slot == event.opened_slot}
    gone = [_withdrawal(event) for name, event in known.items() if name not in same]
    news = [dataclasses.replace(event, late=True) for name, event in events.items() if name not in same]
    # Withdrawals first: what is logged again under its old id must not be taken back after that.
    corrections = (*sorted(gone, key=event_order), *sorted(news, key=event_order))
    return Correction(corrections, frozenset(everybody), open_episodes(state, rule))


def _withdrawal(event: Event) -> Event:
    return dataclasses.replace(
        event,
        kind=EventKind.WITHDRAWN,
        withdrawn_id=event.id,
        late=True,
        reason=None,
        message=f"withdrawn, because points came late: {event.message}",
    )
