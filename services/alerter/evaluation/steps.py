"""The one evaluation of rules, for live, restart, late points, replay, TestRule, ExplainSeries and rule tests alike.

Pure: no clock, no I/O, no store, no wire format. Event time alone counts.

    lookback(rule) -> int
        How many slots before the first one to evaluate a block must begin, for `step`.
    history(rule) -> int
        The same for `restore`: it also covers the longest row of points that a rule counts.
    restore(rule, series, evaluated, block, *, expected_from, episodes=()) -> State
        Where every series stands after `evaluated`, from its points and its open episode alone: fresh (no episodes)
        and after a restart (those of the log), which are the same thing.
    step(state, block, through, rule) -> (State, EventColumns)
        Evaluates each series' slots after `state.evaluated` up to `through`, which may differ from series to series.
        Cutting a stretch into blocks and steps in any way changes neither events nor numbers nor the state.
    open_episodes(state, rule) -> tuple[OpenEpisode, ...]
        What a checkpoint must remember: `restore` with these and the points gives the same state.

`events`, beside it, makes `Event`s of `EventColumns`, ends the episodes of what is removed, and orders events.
A missing rule is given the expected series; its series of one exchange advance together, to the least `through`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from services.alerter.evaluation.episodes import Course, Episodes
from services.alerter.evaluation.events import opening_event
from services.alerter.evaluation.frozen import count_frozen, run_frozen
from services.alerter.evaluation.judging import judge_ratio, judge_threshold, limits_of, means_at
from services.alerter.evaluation.missing import count_missing, run_missing
from services.alerter.evaluation.states import (
    REASONS,
    STALE_SLOTS,
    Block,
    EventColumns,
    Places,
    Rows,
    State,
    Stretch,
    ranks_of,
    ratio_of,
    subject_of,
)
from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event, ResolvedReason, Subject
from services.core.model import Series, Slot, Slots
from services.core.rules import Frozen, Missing, Ratio, Rule, Threshold

__all__ = ["Block", "EventColumns", "State", "history", "lookback", "open_episodes", "restore", "step"]

_REBASED = REASONS.index(ResolvedReason.REBASED)


def lookback(rule: Rule) -> int:
    """Return how many slots before the first one to evaluate a block must have, for `step`."""
    match rule.condition:
        case Ratio(window=window):
            return max(window, STALE_SLOTS - 1)
        case Missing():
            return 0
        case _:
            return STALE_SLOTS - 1


def history(rule: Rule) -> int:
    """Return how many slots up to the last one evaluated a block must have, for `restore`; at least `lookback`."""
    return lookback(rule) + _counted(rule)


def _counts_open_alone(rule: Rule) -> bool:
    """Whether the rule counts points in a row only while an episode is open: one point opens it."""
    return isinstance(rule.condition, Ratio | Threshold) and rule.for_points == 1


def _counted(rule: Rule) -> int:
    """Return how many slots the longest row of points that the rule counts can take, short gaps included."""
    match rule.condition:
        case Ratio(resolve_after=resolve_after) | Threshold(resolve_after=resolve_after):
            return STALE_SLOTS * max(resolve_after, rule.for_points)
        case Frozen():
            return STALE_SLOTS * _frozen_points(rule, rule.condition)
        case Missing(slots=slots):
            return slots


def restore(
    rule: Rule,
    series: Sequence[Series],
    evaluated: int | Slots,
    block: Block,
    *,
    expected_from: int | Slots,
    episodes: Iterable[OpenEpisode] = (),
) -> State:
    """Return where each series stands once its slots up to `evaluated` have been evaluated.

    `evaluated` and `expected_from` are of all series or one of each. From `expected_from` on missing slots count; a
    series that turns out to have had a point before it is expected from there on. The block begins at least
    `history(rule)` slots before the slot after the least of `evaluated`, and reaches the greatest. `episodes` are those
    that were open then; one whose subject is not among the series (or, in a missing rule, their exchanges) raises
    KeyError.
    """
    subjects = [subject_of(each) for each in series]
    exchanges = sorted({subject.exchange for subject in subjects}) if isinstance(rule.condition, Missing) else []
    places = {exchange: place for place, exchange in enumerate(exchanges)}
    groups = np.array([places[subject.exchange] for subject in subjects] if exchanges else [], np.intp)
    magnitudes = [
        isinstance(rule.condition, Ratio) and rule.condition.compares_magnitudes(each.measure) for each in series
    ]
    reached = _of_each(evaluated, len(series))
    if exchanges:
        reached = _least(reached, groups, len(exchanges))
    everybody = (*subjects, *map(Subject, exchanges))
    rows = Rows.fresh(len(everybody))
    openings = _reopen(rows, everybody, episodes)
    state = State(
        everybody, len(series), ranks_of(everybody), reached, rows, np.array(magnitudes, np.bool_), groups, openings
    )
    sinces = _of_each(expected_from, len(series))
    rows.expected_from[: len(series)] = sinces
    with np.errstate(all="ignore"):
        for (slot,), which in _alike(reached[: len(series)]):
            block.check(slot + 1 - history(rule), slot + 1, f"restoring {rule.name}")
            if _counts_open_alone(rule):
                which = which[rows.open[which]]  # noqa: PLW2901 - of the others there is nothing to count
                if not len(which):
                    continue
            stretch = Stretch(block, which, slot + 1 - _counted(rule), slot + 1)
            counted = rows.take(which)
            if isinstance(rule.condition, Missing):
                counted.run = count_missing(stretch.values(0), sinces[which], stretch.first, rule.condition.slots)
            elif isinstance(rule.condition, Frozen):
                count_frozen(counted, stretch.values(STALE_SLOTS - 1), _frozen_points(rule, rule.condition))
            else:
                _episodes(rule, state, stretch, counted).count()
            rows.put(which, counted)
    return state


def step(state: State, block: Block, through: int | Slots, rule: Rule) -> tuple[State, EventColumns]:
    """Evaluate each series' slots after the last one evaluated, up to `through` (of all series, or one of each).

    The block begins at least `lookback(rule)` slots before the first slot to evaluate and reaches the last. A series
    whose `through` lies at or before what was evaluated stays as it is. Events come in any order, which `to_events`
    puts right; the state that is returned is new, the one given is unchanged.
    """
    reach = _of_each(through, state.series_count)
    if len(state.groups):
        reach = _least(reach, state.groups, len(state.subjects) - state.series_count)
    reach = np.maximum(reach, state.evaluated)
    rows = state.rows.take(slice(None))
    parts: list[EventColumns] = []
    with np.errstate(all="ignore"):
        for (before, last), which in _alike(state.evaluated, reach):
            if before == last:
                continue
            block.check(before + 1 - lookback(rule), last + 1, f"evaluating {rule.name}")
            every = len(which) == len(reach)  # live as good as always: then nothing need be copied
            evaluated = rows if every else rows.take(which)
            found = _evaluate(rule, state, Stretch(block, which, before + 1, last + 1), evaluated)
            if not every:
                rows.put(which, evaluated)
            parts += [dataclasses.replace(part, subjects=which[part.subjects]) for part in found if len(part)]
    after = dataclasses.replace(state, evaluated=reach, rows=rows)
    return after, EventColumns.joined(parts)


def open_episodes(state: State, rule: Rule) -> tuple[OpenEpisode, ...]:
    """Return the open episodes, by subject's key."""
    rows = state.rows
    found = sorted(np.flatnonzero(rows.open).tolist(), key=state.ranks.__getitem__)
    return tuple(
        OpenEpisode(
            _opening(state, rule, place),
            bool(rows.stale[place]),
            int(rows.breaches[place]),
            Slot(int(rows.last_breach[place])),
        )
        for place in found
    )


def _opening(state: State, rule: Rule, place: int) -> Event:
    restored = state.openings.get(place)
    if restored is not None and restored.opened_slot == state.rows.opened[place]:
        return restored
    return opening_event(state, rule, place)


def _reopen(rows: Rows, subjects: Sequence[Subject], episodes: Iterable[OpenEpisode]) -> dict[int, Event]:
    openings: dict[int, Event] = {}
    places: dict[Subject, int] = {}
    for episode in episodes:
        if not places:
            places = {subject: place for place, subject in enumerate(subjects)}
        opening = episode.opening
        place = places[opening.subject]
        openings[place] = opening
        rows.opened[place] = opening.opened_slot
        rows.stale[place] = episode.stale
        rows.breaches[place] = episode.breach_count
        rows.last_breach[place] = episode.last_breach_slot
        rows.value[place], rows.baseline[place] = opening.value, opening.baseline
        rows.ratio[place], rows.threshold[place] = opening.ratio, opening.threshold
        rows.points[place] = opening.point_count
    return openings


def _evaluate(rule: Rule, state: State, stretch: Stretch, rows: Rows) -> list[EventColumns]:
    """Evaluate a stretch, change its rows and return the events in any order; their subjects are places in the rows."""
    condition, first = rule.condition, stretch.first
    if isinstance(condition, Missing):
        count = int(np.searchsorted(stretch.series, state.series_count))
        exchanges = stretch.series[count:] - state.series_count
        groups = np.searchsorted(exchanges, state.groups[stretch.series[:count]])
        absent = np.isnan(stretch.values(0, slice(count)))
        return run_missing(rows, groups, absent, first, condition.slots)
    if isinstance(condition, Frozen):
        values = stretch.values(STALE_SLOTS - 1)
        return run_frozen(rows, values, first, _frozen_points(rule, condition))
    parts = _episodes(rule, state, stretch, rows).run()
    if isinstance(condition, Ratio):
        for part in parts:
            _measure_by_the_new_level(condition, part, state, stretch)
    return parts


def _measure_by_the_new_level(ratio: Ratio, events: EventColumns, state: State, stretch: Stretch) -> None:
    """Give those events their evidence that say that the average has come up with the level: that average."""
    rebased = np.flatnonzero(events.reasons == _REBASED)
    if not len(rebased):
        return
    series = stretch.series[events.subjects[rebased]]
    magnitudes, values = state.magnitudes[series], events.values[rebased]
    means, counts = means_at(ratio, magnitudes, stretch.block, series, events.slots[rebased])
    events.baselines[rebased] = means
    events.ratios[rebased] = ratio_of(np.where(magnitudes, np.abs(values), values), means)
    events.thresholds[rebased] = limits_of(ratio, means)
    events.points[rebased] = counts


def _episodes(rule: Rule, state: State, stretch: Stretch, rows: Rows) -> Episodes:
    condition, magnitudes = rule.condition, state.magnitudes[stretch.series]
    if isinstance(condition, Ratio):
        verdicts = judge_ratio(condition, magnitudes, stretch)
        course = Course(rule.for_points, condition.resolve_after, condition.resolve_factor, condition.window)
    elif isinstance(condition, Threshold):
        verdicts = judge_threshold(condition, stretch)
        course = Course(rule.for_points, condition.resolve_after, None, None)
    else:
        raise TypeError(f"{rule.kind} rules have a course of their own")
    return Episodes(rows, stretch, magnitudes, verdicts, course)


def _frozen_points(rule: Rule, frozen: Frozen) -> int:
    """Return how many equal points open an episode: the run must be long enough for so many points in a row."""
    return frozen.points + rule.for_points - 1


def _of_each(value: int | Slots, count: int) -> Slots:
    return np.array(np.broadcast_to(np.asarray(value, np.int64), count))


def _least(slots: Slots, groups: Places, group_count: int) -> Slots:
    """Return the least of each group, for all of its series and then for the groups themselves."""
    least = np.full(group_count, np.iinfo(np.int64).max)
    np.minimum.at(least, groups, slots)
    return np.concatenate([least[groups], least])


def _alike(*columns: Slots) -> Iterator[tuple[tuple[int, ...], Places]]:
    """Cut rows into those whose columns are alike: what they hold, and which rows they are, in ascending order."""
    if not len(columns[0]):
        return
    if all((column == column[0]).all() for column in columns):
        yield tuple(int(column[0]) for column in columns), np.arange(len(columns[0]))
        return
    kinds, places = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    order = np.argsort(places, kind="stable")
    for kind, which in zip(kinds.tolist(), np.split(order, np.cumsum(np.bincount(places))[:-1]), strict=True):
        yield tuple(kind), which
