"""An engine over a market that is told slot by slot: what it logs, and what replaying the same history gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry

from services.alerter.evaluation.events import event_order, to_events
from services.alerter.evaluation.steps import Block, history, restore, step
from services.alerter.live.engine import Engine
from services.alerter.rules.rulebook import RuleBook, RuleSet
from services.core.breach_documents import AlertState, event_document, state_from_text
from services.core.breaches import Event, EventKind, Position
from services.core.clock import ManualClock
from services.core.model import Measure, Outcome, Points, Quality, Run, Series, Slot
from services.core.rules import Missing, Rule
from services.core.store.base import MetricStore
from services.core.store.memory import MemoryMetricStore
from services.core.telemetry import EvaluationMetrics

FIRST = Slot(29_925_000)
"""The slot in progress when the engine first starts; slots in scripts count from here."""

GRACE_SECONDS = 60.0


class Told(NamedTuple):
    """A point on its way to the store; `slot` counts from `FIRST`."""

    series: Series
    slot: int
    value: float


class FixedRules(RuleBook):
    """Rules that a test sets."""

    def __init__(self, rules: Iterable[Rule], expected: Iterable[Series]) -> None:
        self.set(rules, expected)

    def set(self, rules: Iterable[Rule], expected: Iterable[Series]) -> None:
        """Put other rules and expected series in force."""
        by_name = tuple(sorted(rules, key=lambda rule: rule.name))
        self.now = RuleSet(by_name, tuple(sorted(expected)), 0.0)

    @property
    def current(self) -> RuleSet:
        return self.now

    def refresh(self) -> RuleSet:
        return self.now


class Killed(BaseException):
    """The process has been killed: nothing catches it."""


def _die() -> None:
    raise Killed


class Mortal:
    """Somebody's methods, until a call number is reached; that call kills, before or after it has done its work.

    Calls are counted over all objects that share one `Fate`.
    """

    def __init__(self, inner: object, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._fate.guard(found) if callable(found) else found


@dataclass
class Fate:
    """At which call somebody dies, from 0; None: never."""

    at: int | None = None
    after: bool = False
    calls: int = 0
    die: Callable[[], None] = _die

    def guard(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that counts, and dies when its time has come."""

        def call(*arguments: Any, **named: Any) -> Any:
            now, self.calls = self.calls, self.calls + 1
            if now == self.at and not self.after:
                self.die()
            result = method(*arguments, **named)
            if now == self.at:
                self.die()
            return result

        return call


class Changeable:
    """Hands every call on to `inner`, which may be changed under whoever holds this."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Live:
    """An engine on a store, stepped by hand.

    What the last engine reads, where it appends, and what it asks may be changed: `reader`, `log`, `leads`, `silenced`.
    """

    reader: Changeable
    log: Changeable
    leads: Callable[[], bool]
    silenced: Callable[[Event], bool]

    def __init__(
        self, rules: Sequence[Rule], expected: Sequence[Series] = (), *, store: MetricStore | None = None
    ) -> None:
        self.clock = ManualClock(FIRST * 60.0 + 1)
        self.store = store or MemoryMetricStore(clock=self.clock)
        self.rules = FixedRules(rules, expected)
        self.registry = CollectorRegistry()
        self.metrics = EvaluationMetrics(self.registry)
        self.engine = self.start()

    def start(self, fate: Fate | None = None) -> Engine:
        """Start an engine, as a new process would; it becomes the one that is stepped."""
        self.reader = Changeable(Mortal(self.store, fate) if fate else self.store)
        self.log = Changeable(Mortal(self.store.breach_log, fate) if fate else self.store.breach_log)
        self.leads, self.silenced = lambda: True, lambda _event: False
        reader: Any = self.reader
        log: Any = self.log
        self.engine = Engine(
            reader=reader,
            log=log,
            rules=self.rules,
            clock=self.clock,
            metrics=self.metrics,
            silenced=self._is_silenced,
            leads=self._leads,
            grace_seconds=GRACE_SECONDS,
        )
        return self.engine

    def _is_silenced(self, event: Event) -> bool:
        return self.silenced(event)

    def _leads(self) -> bool:
        return self.leads()

    def at(self, slot: int, seconds: float = 0.0) -> None:
        """Set the clock to so many seconds after a slot's end."""
        self.clock.set((FIRST + slot + 1) * 60.0 + seconds)

    def write(self, points: Iterable[Told]) -> None:
        """Write points, as a collector would."""
        rows = [(series, FIRST + slot, value, Quality.OBSERVED) for series, slot, value in points]
        if rows:
            self.store.write(Points.of(rows))

    def run(self, slot: int, *exchanges: str) -> None:
        """Record that a run of each exchange has written a slot."""
        for exchange in exchanges:
            self.store.record_run(Run(exchange, Slot(FIRST + slot), (FIRST + slot + 1) * 60.0 + 5, 1, Outcome.OK))

    def step(self) -> None:
        """Have the engine evaluate what is there; it must be able to."""
        assert self.engine.step(), "the engine could not evaluate"

    def settle(self, slot: int) -> None:
        """Let time pass until a slot is evaluated for everybody."""
        self.at(slot, GRACE_SECONDS + 1)
        self.step()

    @property
    def events(self) -> list[Event]:
        """Everything in the log, in its order."""
        entries = self.store.breach_log.read_after(Position(Slot(FIRST - 2000), 0), 100_000)
        return [entry.event for entry in entries]

    @property
    def state(self) -> AlertState:
        """What the checkpoint says."""
        checkpoint = self.store.breach_log.checkpoint()
        assert checkpoint is not None
        return state_from_text(checkpoint.state)


def replayed(
    rules: Iterable[Rule],
    points: Mapping[tuple[Series, int], float],
    expected: Iterable[Series],
    last: int,
    *,
    began: int = 0,
) -> list[Event]:
    """Return the events of the slots `began` to `last`, each rule evaluated at one go over the whole history.

    Points are by series and slot. The log was opened in slot 0; those before `began` serve as the past.
    """
    seen = {series for series, _ in points}
    events: list[Event] = []
    for rule in rules:
        missing = isinstance(rule.condition, Missing)
        among = set(expected) if missing else seen | set(expected)
        series = sorted(each for each in among if rule.selector.selects(each))
        before = history(rule) - began
        values = np.full((len(series), before + last + 1), np.nan)
        for (each, slot), value in points.items():
            if each in series and -before <= slot <= last:
                values[series.index(each), before + slot] = value
        block = Block(Slot(FIRST - before), values)
        state = restore(rule, series, FIRST + began - 1, block, expected_from=FIRST)
        state, columns = step(state, block, FIRST + last, rule)
        events += to_events(columns, state, rule)
    return sorted(events, key=event_order)


def standing(events: Iterable[Event]) -> list[Event]:
    """Return the events that have not been withdrawn, in the order of slots; one that was found again counts once."""
    found: dict[str, Event] = {}
    for event in events:
        if event.kind is EventKind.WITHDRAWN:
            del found[event.withdrawn_id]
        else:
            assert event.id not in found, f"logged twice: {event}"
            found[event.id] = event
    return sorted(found.values(), key=event_order)


def texts(events: Iterable[Event]) -> list[str]:
    """Return events as JSON, whole."""
    return [json.dumps(event_document(event), sort_keys=True) for event in events]


def ids(events: Iterable[Event]) -> list[str]:
    """Return events' ids with what they are of, for people who read a failed test."""
    return [f"{event.kind} {event.rule} {event.subject.name} @{event.slot - FIRST} {event.id}" for event in events]


def series(name: str, measure: Measure = Measure.VOLUME_1M) -> Series:
    """Return a series of EXCHANGE:PAIR."""
    return Series(name, measure)
