"""An evaluator that begins where another one was: nothing between the two is lost, told twice, or held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.alerter.live.engine import Engine
from services.alerter.rules.rulebook import RuleBook
from services.core.breach_documents import state_from_text
from services.core.catalog.base import FixedCatalog
from services.core.catalog.rule_source import FixedRules
from services.core.clock import ManualClock
from services.core.errors import CursorExpiredError
from services.core.model import SLOT_SECONDS, Measure, Points, Quality, Series, Slot
from services.core.rules import Rule, Threshold
from services.core.store.base import MetricStore
from services.core.store.memory import MemoryMetricStore
from services.core.telemetry import EvaluationMetrics
from tests.support.query import LAST, NOW

RULES = FixedRules((Rule("above-100", Threshold(above=100)),))


@pytest.fixture
def clock() -> ManualClock:
    """Half past a minute."""
    return ManualClock(NOW)


@pytest.fixture
def store(clock: ManualClock) -> MetricStore:
    """A store without points."""
    return MemoryMetricStore(clock=clock)


def evaluator(store: MetricStore, clock: ManualClock, leads=lambda: True) -> Engine:
    """Return an evaluator that has seen nothing yet."""
    rules = RuleBook(RULES, FixedCatalog(), clock)
    metrics = EvaluationMetrics(CollectorRegistry())
    return Engine(reader=store, log=store.breach_log, rules=rules, clock=clock, metrics=metrics, leads=leads)


def write(store: MetricStore, metric: str, slot: int) -> None:
    """Write a point that breaks the rule."""
    store.write(Points.of([(Series(metric, Measure.PRICE), Slot(slot), 200.0, Quality.OBSERVED)]))


def found(store: MetricStore) -> list[tuple[str, int]]:
    """Return metric and slot of every event of the log, in its order."""
    log = store.breach_log
    return [(entry.event.subject.metric, entry.event.slot) for entry in log.read_after(log.earliest(), 100)]


def test_points_of_the_slot_in_progress_are_evaluated_at_once(store: MetricStore, clock: ManualClock) -> None:
    """Also those that were written before the evaluator began: they do not wait for their slot to be closed."""
    assert evaluator(store, clock).step()
    write(store, "SIM:A", LAST + 1)
    second = evaluator(store, clock)
    assert second.step()
    write(store, "SIM:B", LAST + 1)
    assert second.step()

    assert [("SIM:A", LAST + 1), ("SIM:B", LAST + 1)] == found(store)


def test_what_came_while_nobody_evaluated_is_evaluated_once(store: MetricStore, clock: ManualClock) -> None:
    """Whatever slot it is of, and whoever comes next; a third evaluator finds nothing new."""
    first = evaluator(store, clock)
    assert first.step()
    write(store, "SIM:A", LAST + 1)
    assert first.step()
    clock.advance(SLOT_SECONDS)
    write(store, "SIM:A", LAST + 2)
    write(store, "SIM:B", LAST + 1)
    write(store, "SIM:B", LAST + 2)
    for _ in range(2):
        assert evaluator(store, clock).step()

    expected = [("SIM:A", LAST + 1), ("SIM:A", LAST + 2), ("SIM:B", LAST + 1), ("SIM:B", LAST + 2)]
    assert expected == sorted(found(store))


def test_who_no_longer_leads_appends_nothing(store: MetricStore, clock: ManualClock) -> None:
    """However far its step has come: it is asked right before."""
    leading = True
    first = evaluator(store, clock, lambda: leading)
    assert first.step()
    write(store, "SIM:A", LAST + 1)
    leading = False

    assert not first.step()
    assert [] == found(store)
    assert evaluator(store, clock).step()
    assert [("SIM:A", LAST + 1)] == found(store)


def test_who_was_overtaken_goes_on_from_what_the_log_says(store: MetricStore, clock: ManualClock) -> None:
    """Two that lead at once, which a lease prevents, tell nothing twice all the same."""
    first, second = evaluator(store, clock), evaluator(store, clock)
    assert first.step()
    assert second.step()
    for number in range(6):
        write(store, f"SIM:M{number}", LAST + 1)
        (first if number % 2 else second).step()
    first.step()
    second.step()
    first.step()

    assert [(f"SIM:M{number}", LAST + 1) for number in range(6)] == sorted(found(store))


class Busy:
    """Somebody's methods, before and after each call of which something else happens; it has forgotten one mark."""

    def __init__(self, inner: object, happens: Callable[[], None], forgotten: str) -> None:
        self._inner = inner
        self._happens = happens
        self._forgotten = forgotten

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if arguments == (self._forgotten,):
                raise CursorExpiredError("it is too old")
            self._happens()
            result = found(*arguments, **named)
            self._happens()
            return result

        return call if callable(found) else found


@pytest.mark.parametrize("minutes", [0, 3])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_written_while_an_evaluator_begins_is_evaluated(
    store: MetricStore, clock: ManualClock, minutes: int, *, known: bool
) -> None:
    """Between any two of its first calls, in a slot in progress or late, of series old and new: all is told, once."""
    names = [f"SIM:N{number:03}" for number in range(60)]
    first = evaluator(store, clock)
    assert first.step()
    # Half of the series have been seen before; of the others nobody has heard.
    for name in names[::2]:
        store.write(Points.of([(Series(name, Measure.PRICE), Slot(LAST + 1), 1.0, Quality.OBSERVED)]))
    clock.advance(minutes * SLOT_SECONDS)
    assert first.step()
    checkpoint = store.breach_log.checkpoint()
    assert checkpoint is not None
    forgotten = "" if known else state_from_text(checkpoint.state).mark
    coming: Iterator[str] = iter(names)
    written: list[str] = []

    def another() -> None:
        if (name := next(coming, None)) is not None:
            write(store, name, LAST + 1)
            written.append(name)

    second = evaluator(Busy(store, another, forgotten), clock)  # type: ignore[arg-type]  # has all its methods
    assert second.step()
    assert second.step()
    assert 10 < len(written) < len(names)
    coming = iter(())
    assert second.step()

    # Before its first call nobody was there to hear of changes, unless the checkpoint's mark can be continued.
    told = written if known else written[1:]
    assert [(name, LAST + 1) for name in told] == sorted(found(store))
