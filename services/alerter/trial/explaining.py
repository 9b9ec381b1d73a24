"""Why a rule did or did not fire on one series at one slot: the same evaluation, stopped there and looked at.

Pure: values come by `read`. What it says follows from the points as they are stored now; where some came late, live
evaluation may have said something else at the time and corrected it since.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.alerter.evaluation.events import to_events
from services.alerter.evaluation.judging import limits_of, means_at
from services.alerter.evaluation.states import STALE_SLOTS, ratio_of, subject_of
from services.alerter.evaluation.steps import Block, State, history, restore, step
from services.alerter.trial.explanations import Explanation, Numbers, Standing, sentence
from services.core.breach_documents import NO_HISTORY, OpenEpisode
from services.core.breaches import EventKind, Subject, episode_id
from services.core.model import DAY_SLOTS, Series, Slot, Window
from services.core.rules import Frozen, Missing, Ratio, Rule, Threshold

_LONGEST_SLOTS = 30 * DAY_SLOTS

Read = Callable[[Window], Block]
"""Returns the values of the series in a window; may raise StoreError."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: about which of the series that are evaluated together, at which slot."""

    rule: Rule
    series: tuple[Series, ...]
    """One; of a missing rule all of an exchange that it selects."""
    place: int
    """Which of them is meant."""
    slot: Slot
    began: Slot
    """The first slot that was ever evaluated."""
    episodes: Sequence[OpenEpisode] = ()
    """What is open now."""
    live_from: Slot = NO_HISTORY
    """The opening of the log: before it a series is missing only once it has had a point."""


def explain(question: Question, read: Read) -> Explanation:
    """Evaluate up to the slot and say how things stood before and after it."""
    rule, slot = question.rule, question.slot
    block, earlier = _before(question, read)
    state, found = step(earlier, block, slot, rule)
    series = question.series[question.place]
    told = {subject_of(series), Subject(series.metric.partition(":")[0])}
    events = [event for event in to_events(found, state, rule) if event.subject in told]
    before = _standing(question, earlier, block, Slot(slot - 1))
    after = _standing(question, state, block, slot)
    numbers = _numbers(question, state, block)
    return Explanation(
        slot,
        after,
        before,
        breached=any(event.kind is EventKind.BREACH for event in events),
        text=sentence(rule, series, slot, numbers, after=after, events=events),
        numbers=numbers,
        episode_id=_open_episode(question, state),
    )


def _before(question: Question, read: Read) -> tuple[Block, State]:
    """Return where the series stood before the slot, and a block that reaches from there to the slot.

    An episode that is open now and was open then is taken as it is. What else was open then has to be found by
    evaluating: from a day before or, where that cannot tell when an episode opened, from earlier.
    """
    rule, slot = question.rule, question.slot
    subjects = {subject_of(each) for each in question.series} | {
        Subject(each.metric.partition(":")[0]) for each in question.series
    }
    known = [
        each
        for each in question.episodes
        if each.opening.rule == rule.name and each.opening.subject in subjects and each.opening.opened_slot < slot
    ]
    if not isinstance(rule.condition, Missing) and known:
        block = read(Window(Slot(slot - history(rule)), Slot(slot + 1)))
        gone = bool(np.isnan(block.values[:, -STALE_SLOTS - 1 : -1]).all())
        episode = OpenEpisode(known[0].opening, gone, known[0].breach_count, known[0].last_breach_slot)
        return block, restore(rule, question.series, slot - 1, block, expected_from=question.began, episodes=[episode])
    # What lies before the first slot that was ever evaluated is explained as if it had been.
    least = max(question.began, slot - _LONGEST_SLOTS) if question.began <= slot else slot - _LONGEST_SLOTS
    length = max(DAY_SLOTS, 2 * history(rule))
    while True:
        first = Slot(max(least, slot - length))
        if isinstance(rule.condition, Missing) and first < question.live_from:
            first = Slot(least)  # who has had a point in the history must be known
        block = read(Window(Slot(first - history(rule)), Slot(slot + 1)))
        state = restore(rule, question.series, first - 1, block, expected_from=_expected_from(question, first))
        state, _ = step(state, block, slot - 1, rule)
        opened = state.rows.opened[state.rows.open]
        if first == least or not len(opened) or int(opened.min()) > first + (slot - first) // 2:
            return block, state
        length *= 4


def _expected_from(question: Question, first: Slot) -> Slot:
    return first if question.slot < question.began else Slot(max(first, question.live_from))


def _numbers(question: Question, state: State, block: Block) -> Numbers:
    """Return what the slot's point was measured by, whether or not it fired."""
    rule, place, slot = question.rule, question.place, question.slot
    here = np.array([place])
    value = float(block.at(here, np.array([slot]))[0])
    match rule.condition:
        case Ratio() as ratio:
            magnitudes = state.magnitudes[here]
            with np.errstate(all="ignore"):
                means, counts = means_at(ratio, magnitudes, block, here, np.array([slot]))
            level = abs(value) if magnitudes[0] else value
            return Numbers(
                value,
                float(means[0]),
                float(ratio_of(np.array([level]), means)[0]),
                float(limits_of(ratio, means)[0]),
                int(counts[0]),
            )
        case Threshold(above=above, below=below):
            beyond = below is not None and (above is None or abs(value - below) < abs(value - above))
            limit = below if beyond and below is not None else above
            number = math.nan if limit is None else limit
            return Numbers(value, number, float(ratio_of(np.array([value]), np.array([number]))[0]), number, 0)
        case Missing():
            since = int(state.rows.expected_from[place]) - block.start
            absent = np.isnan(block.values[place, since : slot + 1 - block.start])
            run = int(np.argmin(absent[::-1])) if not absent.all() else len(absent)
            return Numbers(value, math.nan, math.nan, math.nan, run)
        case Frozen():
            return _frozen_evidence(value, block.values[place, : slot + 1 - block.start])


def _frozen_evidence(value: float, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Numbers:
    """Return the value of the row of equal points that the slot's point is of, and how many they are."""
    points = values[~np.isnan(values)]
    last = float(points[-1]) if len(points) else math.nan
    differs = np.flatnonzero(points != last)
    count = len(points) - (int(differs[-1]) + 1 if len(differs) else 0)
    return Numbers(value, last, float(ratio_of(np.array([value]), np.array([last]))[0]), math.nan, count)


def _standing(question: Question, state: State, block: Block, slot: Slot) -> Standing:
    rule, place, rows = question.rule, question.place, state.rows
    if rows.open[place] or _exchange_open(question, state):
        return Standing.STALE if rows.stale[place] else Standing.OPEN
    value = block.values[place, slot - block.start]
    if math.isnan(value):
        return Standing.NO_POINT
    if isinstance(rule.condition, Ratio):
        here = np.array([place])
        with np.errstate(all="ignore"):
            means, counts = means_at(rule.condition, state.magnitudes[here], block, here, np.array([slot]))
        if counts[0] < rule.condition.min_points:
            return Standing.INSUFFICIENT_DATA
        if not means[0] > 0:
            return Standing.NOT_APPLICABLE
    enough = rule.condition.points if isinstance(rule.condition, Frozen) else 1
    return Standing.PENDING if rule.for_points > 1 and rows.run[place] >= enough else Standing.OK


def _exchange_place(question: Question, state: State) -> int | None:
    return state.series_count + int(state.groups[question.place]) if len(state.groups) else None


def _exchange_open(question: Question, state: State) -> bool:
    place = _exchange_place(question, state)
    return place is not None and bool(state.rows.open[place])


def _open_episode(question: Question, state: State) -> str:
    """Return the id of the series' open episode, else of its exchange's."""
    for place in (question.place, _exchange_place(question, state)):
        if place is not None and state.rows.open[place]:
            return episode_id(question.rule.name, state.subjects[place], int(state.rows.opened[place]))
    return ""
