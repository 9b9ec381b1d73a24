"""Evaluates the rules on what is written to the store, and appends what it finds to the log of breaches.

A thread: it reads what is new, evaluates it, appends events and checkpoint together, and only then tells whoever serves
the log. All it must remember is in the log and in the points, so it may be killed at any moment and started anywhere
else: it goes on where the checkpoint says, catching up first. It knows no wire format and no receiver.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from services.alerter.evaluation.columns_of import block_of, points_of
from services.alerter.evaluation.states import subject_of
from services.alerter.evaluation.steps import Block
from services.alerter.live.evaluator import Evaluator, Late, Watched, slots_kept
from services.alerter.live.logged import LoggedEvents
from services.alerter.live.recent import Recent
from services.alerter.live.reevaluation import evaluate_again, looked_back_on, starts_again, withdrawal
from services.alerter.rules.rulebook import RuleBook
from services.core.breach_documents import AlertState, state_from_text, state_text
from services.core.breaches import Checkpoint, Event, LogEntry, Position
from services.core.clock import Clock
from services.core.errors import CursorExpiredError, InvalidCursorError, LogMovedError, StoreError
from services.core.model import DAY_SLOTS, SLOT_SECONDS, Points, Series, Slot, Window, last_complete_slot
from services.core.polling import Polling
from services.core.rules import Missing, Rule
from services.core.store.base import BreachLog, Changes, Mark, MetricReader
from services.core.telemetry import EvaluationMetrics

_log = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
"""How long after its end a slot may still get its points from a run that is late, before they count as missing."""

CATCH_UP_SLOTS = DAY_SLOTS
"""How far back evaluation goes on after it has been away; older slots are skipped, and the log says nothing of them."""

_REMEMBERED_SLOTS = DAY_SLOTS + 120
_CHUNK_SLOTS = 240
_PIECE_VALUES = 250_000
"""So many, of series and slots, are evaluated again at one go: what that finds is written in seconds."""
_AGAIN_SECONDS = 20.0
"""After this long new slots come before what is still to be evaluated again, so that a market's day that is filled in
holds no alert back."""
_PAGE_ENTRIES = 1000
_LONGEST_PAUSE_SECONDS = 10.0
_AHEAD_SLOTS = 1
_BACK_SLOTS = 2
"""So far a clock may be set back as clocks are."""


class _BrokenOffError(Exception):
    """A step ends here: what it would still find could not be written any more."""


class Engine:
    """Evaluation, alone on its log. It may be stopped and started again, as the right to evaluate comes and goes.

    `silenced(event)` says whether a silence holds for it; `on_append()` is called after each append, from this thread.
    `leads()` is asked right before anything is written: the right to evaluate may have gone while a step was under way.

    A step may be long: a day of a whole market to be read and evaluated. It is done in pieces of seconds, and between
    any two of them it breaks off where the engine has been stopped or no longer leads.
    """

    def __init__(
        self,
        *,
        reader: MetricReader,
        log: BreachLog,
        rules: RuleBook,
        clock: Clock,
        metrics: EvaluationMetrics,
        silenced: Callable[[Event], bool] = lambda _event: False,
        on_append: Callable[[], None] = lambda: None,
        leads: Callable[[], bool] = lambda: True,
        poll_interval_seconds: float = 1.0,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._reader = reader
        self._log = log
        self._rules = rules
        self._clock = clock
        self._metrics = metrics
        self._silenced = silenced
        self._on_append = on_append
        self._leads = leads
        self._grace = grace_seconds
        self._evaluator: Evaluator | None = None
        self._logged = LoggedEvents()
        self._early = Points.of(())
        self._mark = Mark("")
        self._settled = Mark("")
        """Up to where nothing is owed any more. Checkpoints say this: whoever takes over reads the rest again."""
        self._owed: dict[tuple[str, Slot], set[Series]] = {}
        """What late points ask for: by rule, and the slot from which on it is to be evaluated again."""
        self._end: Position | None = None
        self._written: AlertState | None = None
        self._whole = False
        """Whether what is in memory is what the log and the store say: a reading that fails changes nothing of it."""
        self._failures = 0
        self._polling = Polling(
            "tickwatch-engine",
            self.step,
            interval_seconds=poll_interval_seconds,
            longest_pause_seconds=_LONGEST_PAUSE_SECONDS,
        )

    def start(self) -> None:
        """Begin evaluating, where the log says, in a thread of its own; does nothing while there is one."""
        self._polling.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, at most one piece of a step later."""
        self._polling.stop()
        self._evaluator = None

    @property
    def behind_seconds(self) -> float:
        """Time since the end of the last slot that is evaluated for every series; infinite before the first."""
        if self._written is None:
            return float("inf")
        return max(0.0, self._clock.now() - (self._written.evaluated + 1) * SLOT_SECONDS)

    def step(self) -> bool:
        """Evaluate once whatever is new; return whether that could be done. Never raises."""
        try:
            if self._evaluator is None:
                self._load()
            self._poll()
        except _BrokenOffError:
            self._evaluator = None
            return False
        except LogMovedError as error:
            self._evaluator = None
            if not self._may_write():
                return False
            self._failed(f"{error}: going on from what the log says")
        except (CursorExpiredError, InvalidCursorError) as error:
            self._failed(f"the store cannot continue from where it was read ({error}): reading it anew")
            self._evaluator, self._mark = None, Mark("")
        except StoreError as error:
            self._failed(f"cannot evaluate: {error}")
            if not self._whole:
                self._evaluator = None
        except Exception as error:  # noqa: BLE001 - see below; it is logged
            # A defect in a batch must not end the thread silently: it shows in the health and the log.
            _log.exception("evaluation failed")
            self._failed(str(error))
            self._evaluator = None
        else:
            self._failures = 0
        return not self._failures

    def _failed(self, words: str) -> None:
        if not self._failures:
            _log.warning("%s", words)
        self._failures += 1
        self._metrics.failures.inc()

    def _may_write(self) -> bool:
        return self._leads() and not self._polling.stopping

    def _go_on(self) -> None:
        """Between two pieces of a step: raise where nothing that it would still find may be written."""
        if not self._may_write():
            raise _BrokenOffError

    def _present(self) -> Evaluator:
        assert self._evaluator is not None, "loading comes first"  # noqa: S101 - the order of `step`
        return self._evaluator

    # Beginning, at first or again.

    def _load(self) -> None:
        """Take up evaluation where the log's checkpoint says, or begin with the last day, and catch up."""
        self._whole = False
        complete = last_complete_slot(self._clock.now())
        present = self._reader.mark()
        checkpoint = self._log.checkpoint()
        self._end = checkpoint.end if checkpoint else None
        state = state_from_text(checkpoint.state) if checkpoint else self._opening(complete, present)
        if complete - state.evaluated > CATCH_UP_SLOTS:
            _log.warning("evaluation was away for over a day: the slots before the last day are skipped")
            skipped = Slot(complete - CATCH_UP_SLOTS)
            state = dataclasses.replace(state, evaluated=skipped, began=Slot(skipped + 1), ahead={})
        self._read_log(complete, state)
        state, withdrawn = self._not_of_the_future(state, complete)
        rules = self._rules.refresh()
        # Up to the slot in progress: what has been written of it is before the mark, and would never be heard of again.
        end = Slot(max(complete, state.evaluated) + 1 + _AHEAD_SLOTS)
        here = Slot(min(state.evaluated + 1 + _CHUNK_SLOTS, end))
        recent = Recent(slots_kept(rules.rules) + _CHUNK_SLOTS, here)
        for part in self._chunks(recent.start, here):
            recent.fill(self._reader.read_window(part))
        self._early = points_of(self._reader.read_window(Window(end, Slot(end + DAY_SLOTS))))
        evaluator = Evaluator(recent, state)
        # After the past has been read: what is written meanwhile is heard of here, or after the mark.
        missed = self._since(Mark(state.mark), present)
        due = self._due(missed.points, end)
        evaluator.take(due.select(due.slots < here))
        if complete - state.live_from < 2 * CATCH_UP_SLOTS:  # else late points no longer reach into the history
            for part in self._chunks(evaluator.began, state.live_from):
                evaluator.recall(self._reader.read_window(part))
        removed = evaluator.adopt(rules.rules, rules.expected)
        self._evaluator = evaluator
        self._mark, self._settled, self._owed = missed.mark, Mark(state.mark), {}
        self._append([*withdrawn, *removed])
        self._owe(evaluator.evaluated_of(missed.points))
        self._reevaluate()
        self._catch_up(Window(here, end), last_complete_slot(self._clock.now() - self._grace))
        self._whole = True

    def _opening(self, complete: int, mark: Mark) -> AlertState:
        """Return where a log begins that nobody has begun: with what the store has of the last day."""
        live_from = Slot(complete + 1)
        for part in self._chunks(live_from - CATCH_UP_SLOTS, live_from):
            present = ~np.isnan(self._reader.read_window(part).values).all(axis=0)
            if present.any():
                began = Slot(part.start + int(present.argmax()))
                return AlertState(Slot(began - 1), began, {}, mark=mark, live_from=live_from)
        return AlertState(Slot(complete), live_from, {}, mark=mark, live_from=live_from, blank=True)

    def _catch_up(self, window: Window, waited: int) -> None:
        """Evaluate what has been read, and the window after it, a piece at a time so that a day takes little memory."""
        evaluator = self._present()
        for part in self._chunks(window.start, window.end):
            evaluator.close(part.start - 1, min(part.start - 1, waited), {})
            self._advance()
            evaluator.take(points_of(self._reader.read_window(part)))

    def _advance(self) -> None:
        """Evaluate what can be, and append what that finds piece by piece."""
        evaluator = self._present()
        while True:
            self._append(evaluator.advance(_CHUNK_SLOTS))
            if evaluator.finished:
                break
            self._go_on()

    def _since(self, known: Mark, present: Mark) -> Changes:
        """Return what was written since the checkpoint was; where that cannot be told any more, since the present."""
        if known:
            try:
                return self._reader.read_since(known)
            except (CursorExpiredError, InvalidCursorError) as error:
                _log.warning("what came late while nobody evaluated is not known: %s", error)
        return self._reader.read_since(present)

    def _not_of_the_future(self, state: AlertState, complete: Slot) -> tuple[AlertState, list[Event]]:
        """Go back to the present if a clock that was fast has had evaluation run ahead of it.

        Returns what to go on from, and the withdrawals of what was logged of slots that had not been yet. Where the
        points are as far ahead, it is the present clock that is wrong, and evaluation waits for it.
        """
        if not self._is_ahead(state.evaluated, complete):
            return state, []
        present = max(complete, self._reader.newest_run_slot() or complete)
        _log.warning("the clock has gone back by %d minutes: evaluating from there again", state.evaluated - present)
        withdrawn = [withdrawal(event) for event in self._logged.after(present)]
        episodes = tuple(self._logged.all_open_before(Slot(present + 1)))
        began, live_from = Slot(min(state.began, present + 1)), Slot(min(state.live_from, present + 1))
        state = dataclasses.replace(state, evaluated=present, began=began, live_from=live_from)
        return dataclasses.replace(state, episodes=episodes, ahead={}), withdrawn

    def _is_ahead(self, evaluated: Slot, complete: Slot) -> bool:
        """Whether evaluation is ahead of both the clock and the points."""
        if evaluated <= complete + _BACK_SLOTS:
            return False
        newest = self._reader.newest_run_slot()
        return newest is None or evaluated > newest + _BACK_SLOTS

    def _read_log(self, complete: int, state: AlertState) -> None:
        """Remember what the log says of the last day, and what is open from before."""
        self._logged = LoggedEvents()
        self._logged.add(episode.opening for episode in state.episodes)
        position = max(Position(Slot(complete - _REMEMBERED_SLOTS), 0), self._log.earliest())
        while entries := self._log.read_after(position, _PAGE_ENTRIES):
            self._logged.add(entry.event for entry in entries)
            position = entries[-1].after
            self._go_on()

    # Going on.

    def _poll(self) -> None:
        now = self._clock.now()
        complete = last_complete_slot(now)
        evaluated = self._present().evaluated
        if self._is_ahead(evaluated, complete) or complete - evaluated > _CHUNK_SLOTS:  # a machine that slept
            self._load()
        self._go_on()
        evaluator = self._present()
        # The runs' records follow their points: read in this order, a slot is never closed before its points are in.
        runs = self._newest_runs() if evaluator.evaluated < complete else {}
        changes = self._reader.read_since(self._mark)
        points = self._due(changes.points, complete + 1 + _AHEAD_SLOTS)
        late = evaluator.take(points)
        removed = evaluator.adopt(*self._rules_in_force())
        evaluator.close(complete, last_complete_slot(now - self._grace), runs)
        self._append(removed)
        self._advance()
        self._mark = changes.mark
        self._owe(late)
        self._reevaluate()
        self._logged.forget_before(complete - _REMEMBERED_SLOTS)
        self._metrics.behind_seconds.set(self.behind_seconds)

    def _newest_runs(self) -> dict[str, Slot]:
        """Return the newest slot that a run of each exchange has reported."""
        newest: dict[str, Slot] = {}
        for run in self._reader.latest_runs():
            newest[run.exchange] = max(run.slot, newest.get(run.exchange, run.slot))
        return newest

    def _rules_in_force(self) -> tuple[Sequence[Rule], Sequence[Series]]:
        rules = self._rules.refresh()
        self._metrics.rules_loaded.set(0 if rules.error else 1)
        return rules.rules, rules.expected

    def _due(self, points: Points, end: int) -> Points:
        """Return the points before `end`, and keep the others until then: a collector's clock is fast."""
        self._metrics.refused_points.inc(int((points.slots >= end).sum()))
        if len(self._early):
            points = Points.concatenate([self._early, points])
        self._early = points.select(points.slots >= end)
        return points.select(points.slots < end) if len(self._early) else points

    def _owe(self, late: Late) -> None:
        """Note what late points touch: it is to be evaluated again."""
        evaluator = self._present()
        self._metrics.late_points.inc(len(late))
        first = evaluator.first_late(late, Slot(last_complete_slot(self._clock.now()) - CATCH_UP_SLOTS))
        for series, slot in first.items():
            for watched in evaluator.watching:
                if series in watched.places:
                    self._owed.setdefault((watched.rule.name, slot), set()).add(series)

    def _reevaluate(self) -> None:
        """Evaluate again what is owed, and append what that changes; after a while new slots come first again."""
        evaluator = self._present()
        until = self._clock.elapsed() + _AGAIN_SECONDS
        while self._owed and self._clock.elapsed() <= until:
            name, since = min(self._owed)
            watched = evaluator.watched(name)
            left: Sequence[Series] = ()
            if watched is not None:  # else the rule has gone meanwhile
                together = _together(watched, self._owed[name, since] & watched.places.keys())
                reached = evaluator.reached(watched, together).tolist()
                chosen = [each for each, slot in zip(together, reached, strict=True) if slot >= since]
                left = self._evaluate_again(watched, chosen, since, until) if chosen else ()
            # Only now: where it cannot be read, it is still owed.
            del self._owed[name, since]
            if left:
                self._owed[name, since] = set(left)
        if not self._owed:
            self._settled = self._mark

    def _evaluate_again(
        self, watched: Watched, series: Sequence[Series], since: Slot, until: float
    ) -> Sequence[Series]:
        """Evaluate these series again under a rule, because points have come for slots since then; return those left.

        Each piece is in the log before the next begins, so that whoever takes over finds it there and goes on.
        """
        evaluator, rule = self._present(), watched.rule
        starts = starts_again(rule, series, since, logged=self._logged, began=evaluator.began)
        reached = evaluator.reached(watched, series)
        begin, end = int(starts.min()) - looked_back_on(rule), int(reached.max()) + 1
        block = self._block(series, Window(Slot(begin), Slot(end)))
        step = len(series) if isinstance(rule.condition, Missing) else max(1, _PIECE_VALUES // (end - begin))
        for first in range(0, len(series), step):
            if first and self._clock.elapsed() > until:
                return series[first:]
            self._go_on()
            piece = slice(first, first + step)
            correction = evaluate_again(
                rule,
                series[piece],
                since,
                starts[piece],
                reached[piece],
                block=Block(block.start, block.values[piece]),
                logged=self._logged,
                expected_from=evaluator.expected_from(series[piece]),
            )
            evaluator.reopen(watched, correction.subjects, correction.episodes)
            self._append(correction.events)
        return ()

    def _block(self, series: Sequence[Series], window: Window) -> Block:
        parts = [block_of(self._reader, series, part).values for part in self._chunks(window.start, window.end)]
        return Block(window.start, np.concatenate(parts, axis=1))

    def _chunks(self, start: int, end: int) -> Iterator[Window]:
        """Cut a window into pieces that take little memory and, each, little time."""
        for first in range(start, end, _CHUNK_SLOTS):
            self._go_on()
            yield Window(Slot(first), Slot(min(first + _CHUNK_SLOTS, end)))

    def _append(self, events: Sequence[Event]) -> None:
        """Write events and checkpoint to the log, if either is new, and then say so."""
        state = self._present().state(self._settled)
        if not events and self._end is not None and not self._is_news(state):
            return
        entries: list[LogEntry] = []
        end = self._end or Position(state.evaluated, 0)
        for event in events:
            if event.slot > end.slot:
                end = Position(event.slot, 0)
            entries.append(LogEntry(end, dataclasses.replace(event, silenced=self._silenced(event))))
            end = entries[-1].after
        if state.evaluated > end.slot:
            end = Position(state.evaluated, 0)
        checkpoint = Checkpoint(end, state_text(state))
        whole, self._whole = self._whole, False
        self._log.append(self._end, entries, checkpoint, self._may_write)
        self._whole = whole
        self._end, self._written = end, state
        self._logged.add(entry.event for entry in entries)
        for entry in entries:
            self._metrics.events.labels(entry.event.rule, entry.event.kind.value).inc()
        self._on_append()

    def _is_news(self, state: AlertState) -> bool:
        """Whether a checkpoint would say anything that the last one did not, but for the mark."""
        return self._written is None or dataclasses.replace(state, mark=self._written.mark) != self._written


def _together(watched: Watched, touched: Collection[Series]) -> Sequence[Series]:
    """Return what has to be evaluated with these series: in missing rules all that is selected of their exchanges."""
    if not isinstance(watched.rule.condition, Missing):
        return sorted(touched)
    exchanges = {subject_of(each).exchange for each in touched}
    return sorted(each for each in watched.series if subject_of(each).exchange in exchanges)
