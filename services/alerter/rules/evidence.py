"""Answers about rules: which are in force and how they fare, what one would have fired, why one did or did not.

It brings together rules, store, log and clock, and checks what is asked; what follows from the points is computed by
`replaying` and `explaining`. Pure of any wire format. May be called from any thread.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.alerter.evaluation.columns_of import block_of
from services.alerter.evaluation.steps import Block
from services.alerter.notifying.silences import Silence, Silences
from services.alerter.rules.counting import BreachTally, RuleCount
from services.alerter.rules.rulebook import RuleBook, RuleSet, near
from services.alerter.trial import explaining, replaying
from services.alerter.trial.explaining import Question
from services.alerter.trial.explanations import Explanation, not_selected
from services.alerter.trial.replaying import Replay
from services.core.breach_documents import AlertState
from services.core.breaches import Subject
from services.core.clock import Clock
from services.core.errors import InvalidInputError, MetricNotFoundError
from services.core.model import DAY_SLOTS, Series, Slot, Window, last_complete_slot, slot_at, slot_time
from services.core.rules import Missing, Rule
from services.core.store.base import RETENTION_DAYS, BreachLog, MetricReader
from services.core.store.gate import StoreGate

LONGEST_TEST_DAYS = 31

SERIES_SECONDS = 30.0
"""How long what the store said of its series holds: a new one is counted within this time."""

Remaining = Callable[[], float]
"""Returns how many seconds the caller still waits."""


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule in force and how it fares."""

    rule: Rule
    series_count: int
    open_count: int
    """Episodes, the stale ones included."""
    count: RuleCount | None
    """How it has fired within the log; None: it has not."""
    silence_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statuses:
    """All rules in force."""

    rules: tuple[RuleStatus, ...]
    silences: tuple[Silence, ...]
    loaded_at: float
    error: str


class Evidence:
    """The answers. Every method may raise StoreError and DeadlineTooShortError."""

    def __init__(
        self,
        *,
        reader: MetricReader,
        log: BreachLog,
        gate: StoreGate,
        rules: RuleBook,
        silences: Silences,
        tally: BreachTally,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._log = log
        self._gate = gate
        self._rules = rules
        self._silences = silences
        self._tally = tally
        self._clock = clock
        self._guard = threading.Lock()
        self._stored: tuple[Series, ...] = ()
        self._stored_at: float | None = None

    def statuses(self, state: AlertState, remaining: Remaining) -> Statuses:
        """Return the rules in force, and how each fares according to the newest checkpoint and the log."""
        rules = self._rules.refresh()
        stored = self._stored_series(remaining)
        read = functools.partial(self._tally.counts, self._log.read_before, slot_at(self._clock.now()))
        counts = self._gate.read(read, remaining())
        silences = self._gate.read(self._silences.list, remaining())
        opened = Counter(episode.opening.rule for episode in state.episodes)
        return Statuses(
            tuple(
                RuleStatus(
                    rule,
                    len(replaying.selected(rule, rules.expected, stored)),
                    opened[rule.name],
                    counts.get(rule.name),
                    self._silences.holding(rule.name),
                )
                for rule in rules.rules
            ),
            silences,
            rules.loaded_at,
            rules.error,
        )

    def rule(self, name: str) -> Rule:
        """Return the rule in force of this name; raises RuleNotFoundError."""
        return self._rules.refresh().rule(name)

    def test(
        self,
        rule: Rule,
        start: Slot | None,
        end: Slot | None,
        most_events: int,
        remaining: Remaining,
        *,
        live_from: Slot,
    ) -> Replay:
        """Run a rule over stored history, [start, end), by default the last 24 hours of complete slots.

        In slots before the log's opening, `live_from`, nothing is missing that had not been there before.

        Raises InvalidInputError, naming `start_time` or `end_time`, for a range that is empty, too long, to come or
        beyond what stores keep.
        """
        window = self._window(start, end)
        series = replaying.selected(rule, self._rules.refresh().expected, self._stored_series(remaining))
        read = functools.partial(self._read, series, remaining)
        return replaying.replay(rule, series, window, read, most_events=most_events, live_from=live_from)

    def explain(
        self, rule_name: str, series: Series, slot: Slot | None, state: AlertState, remaining: Remaining
    ) -> tuple[Rule, Explanation]:
        """Say why a rule did or did not fire on a series at a slot, by default at the last that was evaluated.

        Raises RuleNotFoundError, MetricNotFoundError, and InvalidInputError, naming `time`, for a slot that was not
        evaluated yet or lies beyond what stores keep.
        """
        rules = self._rules.refresh()
        rule = rules.rule(rule_name)
        self._check_known(series, rules, remaining)
        together = _together(rule, series, rules)
        slot = _evaluated_slot(slot, _reached(rule, series, state), self._oldest)
        if not together:
            return rule, not_selected(rule, series, slot, tracked=series in rules.expected)
        question = Question(
            rule, together, together.index(series), slot, state.began, state.episodes, live_from=state.live_from
        )
        return rule, explaining.explain(question, functools.partial(self._read, together, remaining))

    @property
    def _oldest(self) -> Slot:
        """The first slot that a store may still know."""
        return Slot(slot_at(self._clock.now()) - RETENTION_DAYS * DAY_SLOTS)

    def _window(self, start: Slot | None, end: Slot | None) -> Window:
        next_slot = Slot(last_complete_slot(self._clock.now()) + 1)
        if end is None:
            end = next_slot
        if end > next_slot:
            raise InvalidInputError(
                "end_time", f"{_text(end)} is to come", f"at most {_text(next_slot)}, the end of the last whole minute"
            )
        if start is None:
            start = Slot(end - DAY_SLOTS)
        if start >= end:
            raise InvalidInputError("start_time", f"{_text(start)} is not before the end, {_text(end)}", "before it")
        if end - start > LONGEST_TEST_DAYS * DAY_SLOTS:
            raise InvalidInputError(
                "start_time",
                f"the range is {(end - start) / DAY_SLOTS:.4g} days long",
                f"at most {LONGEST_TEST_DAYS} days",
            )
        if end <= self._oldest:
            raise InvalidInputError(
                "end_time", f"{_text(end)} is longer ago than the {RETENTION_DAYS} days that are kept", "a later time"
            )
        return Window(start, end)

    def _stored_series(self, remaining: Remaining) -> tuple[Series, ...]:
        """Return the series that have points, as they were a short time ago."""
        now = self._clock.elapsed()
        with self._guard:
            if self._stored_at is not None and now - self._stored_at < SERIES_SECONDS:
                return self._stored
        stored = self._gate.read(self._reader.list_series, remaining())
        with self._guard:
            self._stored, self._stored_at = stored, now
        return stored

    def _read(self, series: Sequence[Series], remaining: Remaining, window: Window) -> Block:
        return self._gate.read(functools.partial(block_of, self._reader, series, window), remaining())

    def _check_known(self, series: Series, rules: RuleSet, remaining: Remaining) -> None:
        if any(each.metric == series.metric for each in rules.expected):
            return
        stored = self._gate.read(self._reader.list_series, remaining())
        names = {each.metric for each in (*stored, *rules.expected)}
        if series.metric not in names:
            raise MetricNotFoundError(series.metric, tuple(near(series.metric, sorted(names))))


def _together(rule: Rule, series: Series, rules: RuleSet) -> tuple[Series, ...]:
    """Return what has to be evaluated with a series; nothing where the rule is not about it."""
    if not rule.selector.selects(series):
        return ()
    if not isinstance(rule.condition, Missing):
        return (series,)
    if series not in rules.expected:
        return ()
    exchange = series.metric.partition(":")[0]
    return tuple(
        each for each in rules.expected if each.metric.partition(":")[0] == exchange and rule.selector.selects(each)
    )


def _reached(rule: Rule, series: Series, state: AlertState) -> Slot:
    """Return the last slot that was evaluated for a series under a rule; missing rules wait for slots to close."""
    exchange = series.metric.partition(":")[0]
    reached = state.ahead.get(Subject(exchange).key, state.evaluated)
    if isinstance(rule.condition, Missing):
        return reached
    return state.ahead.get(Subject(exchange, series.metric, series.measure).key, reached)


def _evaluated_slot(slot: Slot | None, last: Slot, oldest: Slot) -> Slot:
    if slot is None:
        return last
    if slot > last:
        raise InvalidInputError("time", f"{_text(slot)} has not been evaluated yet", f"at most {_text(last)}")
    if slot < oldest:
        raise InvalidInputError(
            "time", f"{_text(slot)} is longer ago than the {RETENTION_DAYS} days that are kept", "a later time"
        )
    return slot


def _text(slot: int) -> str:
    return f"{slot_time(slot):%Y-%m-%d %H:%M} UTC"
