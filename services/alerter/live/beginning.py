"""Where evaluation begins, and with what in memory: at first, after a restart, an absence, or a clock set back.

It reads the log's checkpoint and what the store has of the time before it; it appends nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np

from services.alerter.evaluation.columns_of import points_of
from services.alerter.live.early import EarlyPoints
from services.alerter.live.evaluator import Evaluator, slots_kept
from services.alerter.live.journal import Journal
from services.alerter.live.pieces import PIECE_SLOTS, Pieces
from services.alerter.live.recent import Recent
from services.alerter.live.reevaluation import withdrawal
from services.alerter.rules.rulebook import RuleSet
from services.core.breach_documents import AlertState
from services.core.breaches import Event
from services.core.errors import CursorExpiredError, InvalidCursorError
from services.core.model import DAY_SLOTS, Points, Slot, Window
from services.core.store.base import Changes, Mark, MetricReader
from services.core.telemetry import EvaluationMetrics

CATCH_UP_SLOTS = DAY_SLOTS
"""How far back evaluation goes on after it has been away; older slots are skipped, and the log says nothing of them."""

AHEAD_SLOTS = 1
"""The slot in progress has points already."""
_BACK_SLOTS = 2
"""So far a clock may be set back as clocks are."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What evaluation goes on with."""

    evaluator: Evaluator
    """It has the points before `to_read`, and watches the rules in force."""
    to_read: Window
    """What is still to be read and evaluated, up to the slot in progress."""
    early: EarlyPoints
    missed: Points
    """What was written since the checkpoint was."""
    settled: Mark
    """The checkpoint's mark."""
    mark: Mark
    """What is written after it has not been read."""
    events: list[Event]
    """To be appended at first: what is withdrawn, and the ends of what nothing watches any more."""


def begin(
    reader: MetricReader,
    journal: Journal,
    rules: RuleSet,
    complete: Slot,
    *,
    metrics: EvaluationMetrics,
    pieces: Pieces,
) -> Beginning:
    """Take up evaluation where the log's checkpoint says, or begin with the last day; `complete` is the last slot."""
    present = reader.mark()
    state = journal.open() or _opening(reader, complete, present, pieces)
    if complete - state.evaluated > CATCH_UP_SLOTS:
        _log.warning("evaluation was away for over a day: the slots before the last day are skipped")
        skipped = Slot(complete - CATCH_UP_SLOTS)
        state = dataclasses.replace(state, evaluated=skipped, began=Slot(skipped + 1), ahead={})
    journal.read_back(state, complete, pieces)
    state, withdrawn = _not_of_the_future(reader, journal, state, complete)
    # Up to the slot in progress: what has been written of it is before the mark, and would never be heard of again.
    end = Slot(max(complete, state.evaluated) + 1 + AHEAD_SLOTS)
    here = Slot(min(state.evaluated + 1 + PIECE_SLOTS, end))
    recent = Recent(slots_kept(rules.rules) + PIECE_SLOTS, here)
    for part in pieces.of(recent.start, here):
        recent.fill(reader.read_window(part))
    early = EarlyPoints(points_of(reader.read_window(Window(end, Slot(end + DAY_SLOTS)))), metrics)
    evaluator = Evaluator(recent, state)
    # After the past has been read: what is written meanwhile is heard of here, or after the mark.
    missed = _since(reader, Mark(state.mark), present)
    due = early.due(missed.points, end)
    evaluator.take(due.select(due.slots < here))
    if complete - state.live_from < 2 * CATCH_UP_SLOTS:  # else late points no longer reach into the history
        for part in pieces.of(evaluator.began, state.live_from):
            evaluator.recall(reader.read_window(part))
    removed = evaluator.adopt(rules.rules, rules.expected)
    return Beginning(
        evaluator,
        Window(here, end),
        early,
        missed.points,
        settled=Mark(state.mark),
        mark=missed.mark,
        events=[*withdrawn, *removed],
    )


def is_ahead(reader: MetricReader, evaluated: Slot, complete: Slot) -> bool:
    """Whether evaluation is ahead of both the clock and the points."""
    if evaluated <= complete + _BACK_SLOTS:
        return False
    newest = reader.newest_run_slot()
    return newest is None or evaluated > newest + _BACK_SLOTS


def _opening(reader: MetricReader, complete: Slot, mark: Mark, pieces: Pieces) -> AlertState:
    """Return where a log begins that nobody has begun: with what the store has of the last day."""
    live_from = Slot(complete + 1)
    for part in pieces.of(live_from - CATCH_UP_SLOTS, live_from):
        present = ~np.isnan(reader.read_window(part).values).all(axis=0)
        if present.any():
            began = Slot(part.start + int(present.argmax()))
            return AlertState(Slot(began - 1), began, {}, mark=mark, live_from=live_from)
    return AlertState(Slot(complete), live_from, {}, mark=mark, live_from=live_from, blank=True)


def _since(reader: MetricReader, known: Mark, present: Mark) -> Changes:
    """Return what was written since the checkpoint was; where that cannot be told any more, since the present."""
    if known:
        try:
            return reader.read_since(known)
        except (CursorExpiredError, InvalidCursorError) as error:
            _log.warning("what came late while nobody evaluated is not known: %s", error)
    return reader.read_since(present)


def _not_of_the_future(
    reader: MetricReader, journal: Journal, state: AlertState, complete: Slot
) -> tuple[AlertState, list[Event]]:
    """Go back to the present if a clock that was fast has had evaluation run ahead of it.

    Returns what to go on from, and the withdrawals of what was logged of slots that had not been yet. Where the points
    are as far ahead, it is the present clock that is wrong, and evaluation waits for it.
    """
    if not is_ahead(reader, state.evaluated, complete):
        return state, []
    present = max(complete, reader.newest_run_slot() or complete)
    _log.warning("the clock has gone back by %d minutes: evaluating from there again", state.evaluated - present)
    withdrawn = [withdrawal(event) for event in journal.logged.after(present)]
    episodes = tuple(journal.logged.all_open_before(Slot(present + 1)))
    began, live_from = Slot(min(state.began, present + 1)), Slot(min(state.live_from, present + 1))
    state = dataclasses.replace(state, evaluated=present, began=began, live_from=live_from)
    return dataclasses.replace(state, episodes=episodes, ahead={}), withdrawn
