"""Evaluates the rules on what is written to the store, and appends what it finds to the log of breaches.

A thread: it reads what is new, evaluates it, appends events and checkpoint together, and only then tells whoever serves
the log. All it must remember is in the log and in the points, so it may be killed at any moment and started anywhere
else: it goes on where the checkpoint says (`beginning`), catching up first. What late points change waits in `owed`. It
knows no wire format and no receiver.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.alerter.evaluation.columns_of import points_of
from services.alerter.live.beginning import AHEAD_SLOTS, CATCH_UP_SLOTS, begin, is_ahead
from services.alerter.live.early import EarlyPoints
from services.alerter.live.evaluator import Evaluator, Late
from services.alerter.live.journal import Journal
from services.alerter.live.owed import Owed
from services.alerter.live.pieces import PIECE_SLOTS, BrokenOffError, Pieces
from services.alerter.rules.rulebook import RuleBook
from services.core.breaches import Event
from services.core.clock import Clock
from services.core.errors import CursorExpiredError, InvalidCursorError, LogMovedError, StoreError
from services.core.model import SLOT_SECONDS, Series, Slot, Window, last_complete_slot
from services.core.polling import Polling
from services.core.rules import Rule
from services.core.store.base import BreachLog, Mark, MetricReader
from services.core.telemetry import EvaluationMetrics

_log = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
"""How long after its end a slot may still get its points from a run that is late, before they count as missing."""

_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(slots=True)
class _Memory:
    """What is in memory while evaluation goes on: what the log and the store say, up to `mark`."""

    evaluator: Evaluator
    early: EarlyPoints
    owed: Owed
    mark: Mark
    settled: Mark
    """Up to where nothing is owed any more. Checkpoints say this: whoever takes over reads the rest again."""


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
        self._rules = rules
        self._clock = clock
        self._metrics = metrics
        self._leads = leads
        self._grace = grace_seconds
        self._pieces = Pieces(self._may_write)
        self._journal = Journal(log, metrics=metrics, silenced=silenced, on_append=on_append, may_write=self._may_write)
        self._memory: _Memory | None = None
        """None where evaluation has to begin, at first or again."""
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
        self._memory = None

    @property
    def behind_seconds(self) -> float:
        """Time since the end of the last slot that is evaluated for every series; infinite before the first."""
        written = self._journal.written
        if written is None:
            return float("inf")
        return max(0.0, self._clock.now() - (written.evaluated + 1) * SLOT_SECONDS)

    def step(self) -> bool:
        """Evaluate once whatever is new; return whether that could be done. Never raises."""
        try:
            self._poll(self._memory or self._begin())
        except BrokenOffError:
            self._memory = None
            return False
        except LogMovedError as error:
            self._memory = None
            if not self._may_write():
                return False
            self._failed(f"{error}: going on from what the log says")
        except (CursorExpiredError, InvalidCursorError) as error:
            self._memory = None
            self._failed(f"the store cannot continue from where it was read ({error}): reading it anew")
        except StoreError as error:
            # A reading that failed has changed nothing of what is in memory; what else fails, drops it itself.
            self._failed(f"cannot evaluate: {error}")
        except Exception as error:  # noqa: BLE001 - see below; it is logged
            # A defect in a batch must not end the thread silently: it shows in the health and the log.
            _log.exception("evaluation failed")
            self._memory = None
            self._failed(str(error))
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

    def _begin(self) -> _Memory:
        """Begin where the log says, and catch up; only with all of that done is there something to go on with."""
        self._memory = None
        rules = self._rules.refresh()
        complete = last_complete_slot(self._clock.now())
        found = begin(self._reader, self._journal, rules, complete, metrics=self._metrics, pieces=self._pieces)
        owed = Owed(found.evaluator, self._reader, self._clock, self._pieces)
        memory = _Memory(found.evaluator, found.early, owed, found.mark, found.settled)
        self._append(memory, found.events)
        self._owe(memory, found.evaluator.evaluated_of(found.missed))
        self._pay(memory)
        self._catch_up(memory, found.to_read, last_complete_slot(self._clock.now() - self._grace))
        self._memory = memory
        return memory

    def _catch_up(self, memory: _Memory, window: Window, waited: int) -> None:
        """Evaluate what has been read, and the window after it, a piece at a time so that a day takes little memory."""
        for part in self._pieces.of(window.start, window.end):
            memory.evaluator.close(part.start - 1, min(part.start - 1, waited), {})
            self._advance(memory)
            memory.evaluator.take(points_of(self._reader.read_window(part)))

    def _poll(self, memory: _Memory) -> None:
        """Evaluate what has been written since the last time, and the slots that have ended meanwhile."""
        now = self._clock.now()
        complete = last_complete_slot(now)
        evaluated = memory.evaluator.evaluated
        if is_ahead(self._reader, evaluated, complete) or complete - evaluated > PIECE_SLOTS:  # a machine that slept
            memory = self._begin()
        self._pieces.go_on()
        evaluator = memory.evaluator
        # The runs' records follow their points: read in this order, a slot is never closed before its points are in.
        runs = self._newest_runs() if evaluator.evaluated < complete else {}
        changes = self._reader.read_since(memory.mark)
        late = evaluator.take(memory.early.due(changes.points, complete + 1 + AHEAD_SLOTS))
        removed = evaluator.adopt(*self._rules_in_force())
        evaluator.close(complete, last_complete_slot(now - self._grace), runs)
        self._append(memory, removed)
        self._advance(memory)
        memory.mark = changes.mark
        self._owe(memory, late)
        self._pay(memory)
        self._journal.forget(complete)
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

    def _advance(self, memory: _Memory) -> None:
        """Evaluate what can be, and append what that finds piece by piece."""
        while True:
            self._append(memory, memory.evaluator.advance(PIECE_SLOTS))
            if memory.evaluator.finished:
                break
            self._pieces.go_on()

    def _owe(self, memory: _Memory, late: Late) -> None:
        """Note that what late points touch is to be evaluated again."""
        self._metrics.late_points.inc(len(late))
        memory.owed.note(late, Slot(last_complete_slot(self._clock.now()) - CATCH_UP_SLOTS))

    def _pay(self, memory: _Memory) -> None:
        """Evaluate again what is owed, as far as there is time."""
        memory.owed.pay(self._journal.logged, lambda events: self._append(memory, events))
        if not memory.owed:
            memory.settled = memory.mark

    def _append(self, memory: _Memory, events: Sequence[Event]) -> None:
        """Append events and checkpoint; where that fails nobody knows what is in the log, so evaluation begins anew."""
        try:
            self._journal.append(events, memory.evaluator.state(memory.settled))
        except Exception:
            self._memory = None
            raise
