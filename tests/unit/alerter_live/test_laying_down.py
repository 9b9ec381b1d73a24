"""A leader that has lost its lease, or is told to stop: whatever it is in the midst of, it ends and writes nothing."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from services.alerter.leadership.leading import Duties
from services.alerter.live import owed
from services.core.breaches import Checkpoint, Position
from services.core.clock import ManualClock
from services.core.errors import LogMovedError, StoreUnavailableError
from services.core.model import Points, Slot
from services.core.rules import Missing, Ratio, Rule
from services.core.store.influx import log as influx_log
from services.core.store.influx.log import InfluxBreachLog
from services.core.store.retention import Retention
from tests.support.live import FIRST, Live, Told, ids, series, standing

SURGE = Rule("surge", Ratio(window=10, min_points=3, resolve_after=2))
MISSING = Rule("missing", Missing(3))
SERIES = [series(f"SIM:M{number}") for number in range(12)]
PAST_SLOTS = 600
"""What is filled in late: more slots than are read at once."""


class Counted:
    """A store whose reads are counted; after each `after` is called with their number."""

    def __init__(self, inner: object, after: Callable[[int], None]) -> None:
        self._inner = inner
        self._after = after
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not name.startswith("read_"):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            result = found(*arguments, **named)
            self.reads += 1
            self._after(self.reads)
            return result

        return call


def filled_in() -> Live:
    """Return an engine at slot 5 of a log, to which a past has just been written that it has not looked at yet."""
    live = Live([MISSING, SURGE], SERIES)
    live.write([Told(SERIES[0], -PAST_SLOTS, 1.0)])
    live.step()
    for slot in range(5):
        live.at(slot, 3)
        live.write(Told(each, slot, 1.0) for each in SERIES)
        live.run(slot, "SIM")
        live.step()
    # Half of the series get their past from one slot on, the others from another.
    live.write(
        Told(each, slot, 9.0 if slot % 20 == number % 20 else 1.0)
        for number, each in enumerate(SERIES)
        for slot in range(-PAST_SLOTS + 1 + number % 2 * 7, 0)
    )
    return live


def reading(live: Live, leads: Callable[[], bool], after: Callable[[int], None]) -> Counted:
    """Start an engine, as another process would, whose reads are counted."""
    live.start()
    counted = Counted(live.store, after)
    live.reader.inner = counted  # as slow as a store under load
    live.leads = leads
    return counted


def going_on(live: Live, leads: Callable[[], bool], after: Callable[[int], None]) -> Counted:
    """Have the engine that has evaluated until now go on with reads that are counted."""
    counted = Counted(live.store, after)
    live.reader.inner = counted  # as above
    live.leads = leads
    return counted


Begin = Callable[[Live, Callable[[], bool], Callable[[int], None]], Counted]


class Lease:
    """A lease that is lost for good after so many reads; it remembers what stood in the log when that was noticed."""

    def __init__(self, live: Live, lost_at: int) -> None:
        self._live = live
        self._lost_at = lost_at
        self.lost = False
        self.logged: list[str] = []

    def after(self, reads: int) -> None:
        """Be lost, once so many reads are done."""
        if reads >= self._lost_at and not self.lost:
            self.lost = True
            self.logged = ids(self._live.events)

    def holds(self) -> bool:
        """Whether it is not lost."""
        return not self.lost


@pytest.mark.parametrize("begin", [reading, going_on], ids=["taking over", "going on"])
def test_a_leader_that_lost_its_lease_reads_and_writes_nothing_more(begin: Begin) -> None:
    """Wherever in a long step it happens: at most the read under way ends; the next leader finds a whole log."""
    expected = filled_in()
    expected.step()
    whole = begin(live := filled_in(), lambda: True, lambda _: None)
    live.step()
    assert whole.reads > 10, "the step is not long enough to break it off"
    for lost_at in range(1, whole.reads, 4):
        live = filled_in()
        lease = Lease(live, lost_at)
        counted = begin(live, lease.holds, lease.after)

        assert not live.engine.step()

        # What one look asks for is read by several calls: a few series are read one by one.
        assert counted.reads - lost_at <= 4, f"it went on reading after read {lost_at}"
        assert ids(live.events) == lease.logged, f"it wrote after read {lost_at}"
        live.start()
        live.step()
        assert ids(standing(live.events)) == ids(standing(expected.events))


def test_late_points_make_no_objects() -> None:
    """A day of a market at once: sorting an object a point would keep the thread that renews the lease from running."""
    live = filled_in()
    live.step()
    memory = live.engine._memory
    assert memory is not None
    evaluator = memory.evaluator
    points = live.store.read_since(memory.mark).points
    assert not len(points)
    count = 100_000
    every = Points(
        tuple(SERIES),
        np.arange(count, dtype=np.int32) % len(SERIES),
        FIRST + 4 - np.arange(count, dtype=np.int64) // len(SERIES) % 60,
        np.arange(count) + 100.0,
        np.zeros(count, np.uint8),
    )
    gc.collect()
    before = sys.getallocatedblocks()

    late, evaluated = evaluator.take(every), evaluator.evaluated_of(every)

    assert sys.getallocatedblocks() - before < count / 10
    assert len(late) > count / 2
    assert len(evaluated) > count / 2


def test_an_engine_that_is_told_to_stop_ends_before_its_step_is_done() -> None:
    """`stop` returns while there would be much more to evaluate; started again it comes to the same end."""
    expected = filled_in()
    expected.step()
    live = filled_in()
    begun, go_on = threading.Event(), threading.Event()

    def hold(count: int) -> None:
        if count == 2:
            begun.set()
            assert go_on.wait(60)

    counted = reading(live, lambda: True, hold)
    live.engine.start()
    assert begun.wait(60)
    stopping = threading.Thread(target=live.engine.stop)
    stopping.start()
    while not live.engine._polling.stopping:
        pass
    go_on.set()
    stopping.join(60)

    assert not stopping.is_alive()
    assert counted.reads <= 2 + 4
    live.start()
    live.step()
    assert ids(standing(live.events)) == ids(standing(expected.events))


def test_new_slots_do_not_wait_for_a_past_that_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the past takes, slots that end meanwhile are evaluated in their time; in the end all is found."""
    monkeypatch.setattr(owed, "_PIECE_VALUES", 1000)
    expected = filled_in()
    expected.step()
    live = filled_in()
    append = live.store.breach_log.append

    def slow(*arguments: Any) -> None:
        append(*arguments)
        live.clock.advance(8)

    live.log.inner = _With(live.store.breach_log, append=slow)
    steps = behind = 0.0
    memory = None
    while memory is None or memory.owed:
        live.step()
        memory = live.engine._memory
        assert memory is not None
        steps += 1
        behind = max(behind, live.engine.behind_seconds)
        if memory.owed:
            assert live.state.mark != memory.mark, "who takes over would not read again what is owed"

    assert steps > 2, "it was no long past"
    assert behind < 180, "it would have been taken for not ready"
    slots = {event.slot for event in standing(live.events) if event.rule == "surge"}
    wanted = [event for event in standing(expected.events) if event.rule == "surge"]
    assert slots == {event.slot for event in wanted}
    assert set(ids(wanted)) <= set(ids(standing(live.events)))


def test_a_reading_that_fails_loses_nothing_of_what_has_been_read() -> None:
    """A store that is overloaded lets single readings fail: evaluation goes on where it was, and begins not anew."""
    expected = filled_in()
    expected.step()
    whole = going_on(live := filled_in(), lambda: True, lambda _: None)
    live.step()
    for failing in range(1, whole.reads + 1):
        live = filled_in()

        def fail(count: int, failing: int = failing) -> None:
            if count == failing:
                raise StoreUnavailableError("influxdb", "no answer within 10 s")

        going_on(live, lambda: True, fail)
        live.engine._begin = None  # type: ignore[assignment]  # it need not be called

        assert not live.engine.step()
        assert live.engine.step()

        assert ids(standing(live.events)) == ids(standing(expected.events)), f"after reading {failing}"


class _With:
    """Somebody with one method replaced."""

    def __init__(self, inner: object, **replaced: Any) -> None:
        self._inner = inner
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class OneWaits:
    """A duty whose end takes until another's has begun."""

    def __init__(self, mine: threading.Event, other: threading.Event) -> None:
        self._mine, self._other = mine, other
        self.met = False

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        self._mine.set()
        self.met = self._other.wait(20)


def test_all_duties_end_at_the_same_time() -> None:
    """Nobody is notified any more while the evaluation still ends, nor the other way round."""
    one, other = threading.Event(), threading.Event()
    duties = [OneWaits(one, other), OneWaits(other, one)]

    Duties(*duties).lay_down()

    assert [duty.met for duty in duties] == [True, True]


def test_influxdb_is_asked_for_nothing_between_the_question_and_the_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the lease still holds is asked with the text made already: of many episodes that takes a while."""
    done: list[str] = []
    made = influx_log.quoted

    def making(text: str) -> str:
        done.append("made")
        return made(text)

    class Bucket:
        url = "influxdb+http://nowhere/org/bucket"

        def rows(self, _query: str, _parameters: object) -> list[dict[str, str]]:
            done.append("read")
            return []

        def send(self, _body: str, _precision: str) -> None:
            done.append("sent")

    monkeypatch.setattr(influx_log, "quoted", making)
    clock = ManualClock(FIRST * 60.0)
    log = InfluxBreachLog(Bucket(), clock=clock, retention=Retention(30, clock))  # type: ignore[arg-type]
    live = filled_in()
    live.step()
    entries = live.store.breach_log.read_after(Position(Slot(FIRST - 2000), 0), 100_000)
    assert len(entries) > 500, "more than one request's"
    monkeypatch.setattr(log, "checkpoint", lambda: None)
    monkeypatch.setattr(log, "log_id", lambda: "0" * 32)

    log.append(None, entries, Checkpoint(entries[-1].after, "x" * 200_000), lambda: bool(done.append("asked")) or True)

    sent = [number for number, each in enumerate(done) if each == "sent"]
    assert len(sent) >= 4
    assert [done[number - 1] for number in sent[1:]] == ["asked"] * (len(sent) - 1)
    with pytest.raises(LogMovedError):
        log.append(None, entries, Checkpoint(entries[-1].after, "x"), lambda: False)
