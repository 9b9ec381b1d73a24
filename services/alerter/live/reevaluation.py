"""What late points change: the stretch that they touch is evaluated again and compared with the log.

A breach that a late point makes is logged now, marked late; one that it unmakes is withdrawn. Ids tell which is which,
and what moves to an episode with another opening is withdrawn and logged again.
Pure: the past that nobody holds in memory any more is read by whoever asks, from where `starts_again` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.alerter.evaluation.events import event_order, to_events
from services.alerter.evaluation.states import STALE_SLOTS, subject_of
from services.alerter.evaluation.steps import Block, history, open_episodes, restore, step
from services.alerter.live.logged import LoggedEvents
from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, EventKind, Subject
from services.core.model import Series, Slot, Slots
from services.core.rules import Ratio, Rule


@dataclass(frozen=True, slots=True)
class Correction:
    """What evaluating again has found."""

    events: tuple[Event, ...]
    """To be appended, in order: withdrawals, then what is found now."""
    subjects: frozenset[Subject]
    """Whose episodes are to be replaced,"""
    episodes: tuple[OpenEpisode, ...]
    """by these."""


def starts_again(rule: Rule, series: Sequence[Series], since: Slot, *, logged: LoggedEvents, began: Slot) -> Slots:
    """Return for each of these series from which slot on it is evaluated again, where its late points begin at `since`.

    A ratio's episode that was open by then is evaluated from its opening on: what it froze there may be another number
    now.
    """
    return np.array([_start(rule, subject_of(each), since, logged, began) for each in series], np.int64)


def looked_back_on(rule: Rule) -> int:
    """Return how many slots before its start evaluating again has to know."""
    return max(history(rule), STALE_SLOTS)


def evaluate_again(
    rule: Rule,
    series: Sequence[Series],
    since: Slot,
    starts: Slots,
    through: Slots,
    *,
    block: Block,
    logged: LoggedEvents,
    expected_from: Slots,
) -> Correction:
    """Evaluate each of these series under a rule from its start through what was evaluated of it.

    The block begins `looked_back_on` slots before the first start. For a missing rule `series` are all of an exchange
    that the rule selects, and `expected_from` is, for each, from when on missing slots count.
    """
    just_before = block.part(slice(None), since - STALE_SLOTS, since)
    silent = {subject_of(each) for each, absent in zip(series, np.isnan(just_before), strict=True) if absent.all()}
    since_of = {subject_of(each): int(start) for each, start in zip(series, starts, strict=True)}
    since_of |= {Subject(subject.exchange): since for subject in since_of}
    before = [
        dataclasses.replace(episode, stale=subject in silent)
        for subject, start in sorted(since_of.items(), key=lambda each: each[0].key)
        if (episode := logged.open_before(rule.name, subject, Slot(start)))
    ]
    state = restore(rule, series, starts - 1, block, expected_from=expected_from, episodes=before)
    state, found = step(state, block, through, rule)
    events = {event.id: event for event in to_events(found, state, rule)}
    known: dict[str, Event] = {}
    for subject, start in since_of.items():
        known |= logged.since(rule.name, subject, start)
    # An event whose episode has another opening now is another event, though under the same id.
    same = {name for name, event in known.items() if name in events and events[name].opened_slot == event.opened_slot}
    gone = [withdrawal(event) for name, event in known.items() if name not in same]
    news = [dataclasses.replace(event, late=True) for name, event in events.items() if name not in same]
    # Withdrawals first: what is logged again under its old id must not be taken back after that.
    corrections = (*sorted(gone, key=event_order), *sorted(news, key=event_order))
    return Correction(corrections, frozenset(since_of), open_episodes(state, rule))


def _start(rule: Rule, subject: Subject, since: Slot, logged: LoggedEvents, began: Slot) -> int:
    """Return from which slot on a series is evaluated again."""
    episode = logged.open_before(rule.name, subject, since) if isinstance(rule.condition, Ratio) else None
    # What another version of the rule has opened cannot be judged by this one.
    if episode is None or episode.opening.rule_version != rule.version:
        return since
    return max(episode.opening.slot, began)


def withdrawal(event: Event) -> Event:
    """Return the event that takes another back."""
    return dataclasses.replace(
        event,
        kind=EventKind.WITHDRAWN,
        withdrawn_id=event.id,
        late=True,
        reason=None,
        message=f"withdrawn, because points came late: {event.message}",
    )
