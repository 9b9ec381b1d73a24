"""One history gives one log: evaluated live, restarted anywhere, told out of order, or replayed at one go."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.core.breaches import Event
from services.core.model import Measure, Series
from services.core.rules import Frozen, Missing, Ratio, Rule, Selector, Threshold
from tests.support.live import FIRST, Fate, Killed, Live, Told, ids, replayed, series, standing, texts

AAA, BBB, CCC = series("SIM:AAA"), series("SIM:BBB"), series("KRAKEN:CCC", Measure.CHANGE_PERCENTAGE)
NEVER = series("KRAKEN:NEVER")
EXPECTED = (AAA, BBB, CCC, NEVER)
SLOTS = 14
PAST = 8
"""So many slots before the log's opening may have points."""

RULES = (
    Rule("ratio", Ratio(window=6, min_points=2, resolve_after=2)),
    Rule("twice", Ratio(window=4, min_points=1, resolve_after=3), for_points=2),
    Rule("limit", Threshold(above=30, below=-30, resolve_after=2), Selector(exchanges=("SIM",))),
    Rule("frozen", Frozen(3)),
    Rule("missing", Missing(2)),
)

TIMES = settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)

values = st.sampled_from([None, None, 1.0, 1.0, 2.0, 2.5, 9.0, 40.0, -1.0, -40.0])


class Script(NamedTuple):
    """A history and how it comes: per series and slot a value, and by how many slots it is late."""

    history: dict[tuple[Series, int], float]
    delays: dict[tuple[Series, int], int]
    recorded: list[bool]
    """Per slot: whether a run says that it has written it."""

    @property
    def began(self) -> int:
        """Where the log begins: with the oldest point at its opening or, without one, of the first that come."""
        stored = [slot for (each, slot) in self.history if slot < 0 and (each, slot) not in self.delays]
        if stored:
            return min(stored)
        first = next((told for slot in range(SLOTS + 9) if (told := arriving(self, slot))), [])
        return min([0, *(point.slot for point in first)])


@st.composite
def scripts(draw: st.DrawFn, *, late: bool = False) -> Script:
    """Draw a script; points before slot 0 are there when the log is opened, unless they are late."""
    history, delays = {}, {}
    for each in (AAA, BBB, CCC):
        drawn = draw(st.lists(values, min_size=SLOTS + PAST, max_size=SLOTS + PAST))
        seen = draw(st.integers(0, PAST + 4))
        told = {(each, slot - PAST): value for slot, value in enumerate(drawn) if slot >= seen}
        history |= {key: value for key, value in told.items() if value is not None}
    if late:
        moved = (
            draw(st.lists(st.tuples(st.sampled_from(sorted(history)), st.integers(1, 8)), max_size=12))
            if history
            else []
        )
        delays = dict(moved)
        if draw(st.booleans()):  # nothing is there at the opening
            delays |= {key: draw(st.sampled_from([1, 1, 1, 5])) for key in history if key[1] < 0}
    return Script(history, delays, draw(st.lists(st.booleans(), min_size=SLOTS, max_size=SLOTS)))


def arriving(script: Script, slot: int) -> list[Told]:
    """Return what comes right after a slot's end; what is late of the time before slot 0 comes as if of slot 0."""
    return [
        Told(each, of, value)
        for (each, of), value in script.history.items()
        if (of >= 0 or (each, of) in script.delays) and max(of, 0) + script.delays.get((each, of), 0) == slot
    ]


def begin(script: Script) -> Live:
    """Start on what there was before."""
    live = Live(RULES, EXPECTED)
    live.write(
        Told(each, slot, value)
        for (each, slot), value in script.history.items()
        if slot < 0 and (each, slot) not in script.delays
    )
    live.step()
    return live


def tell(live: Live, script: Script, slot: int) -> None:
    """Let a slot end and its points come; the engine is not stepped."""
    live.at(slot, 3)
    live.write(arriving(script, slot))
    if script.recorded[slot]:
        live.run(slot, "SIM", "KRAKEN")


def finish(live: Live, script: Script) -> None:
    """Let the rest come, and settle."""
    for slot in range(SLOTS, SLOTS + 9):
        live.at(slot, 3)
        live.write(arriving(script, slot))
        live.step()
    live.settle(SLOTS + 9)


def expected_events(script: Script) -> list[Event]:
    """What replaying the whole history gives."""
    return replayed(RULES, script.history, EXPECTED, SLOTS + 9, began=script.began)


@TIMES
@given(scripts())
def test_live_is_replayed(script):
    """Points that come in order, gaps among them, give event by event what replaying them gives; nothing is late."""
    live = begin(script)
    for slot in range(SLOTS):
        tell(live, script, slot)
        live.step()
    finish(live, script)

    assert texts(expected_events(script)) == texts(standing(live.events))
    assert live.state.evaluated == FIRST + SLOTS + 9


@TIMES
@given(scripts(), st.sets(st.integers(0, SLOTS - 1)), st.sets(st.integers(0, SLOTS - 1)))
def test_restarted_is_replayed(script, restarts, away):
    """Started anew before any slots, and away over any others, an engine logs what an uninterrupted one does."""
    live = begin(script)
    for slot in range(SLOTS):
        tell(live, script, slot)
        if slot in restarts:
            live.start()
        if slot not in away:
            live.step()
    finish(live, script)

    assert texts(expected_events(script)) == texts(standing(live.events))


@TIMES
@given(scripts(late=True), st.sets(st.integers(0, SLOTS - 1)))
def test_shuffled_arrival_ends_where_replay_does(script, restarts):
    """However late points come, also to an engine that was restarted, what stands in the end is what replay finds."""
    live = begin(script)
    for slot in range(SLOTS):
        tell(live, script, slot)
        if slot in restarts:
            live.start()
        live.step()
    finish(live, script)

    assert ids(expected_events(script)) == ids(standing(live.events))


@TIMES
@given(scripts(late=True), st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=6))
def test_killed_is_replayed(script, deaths):
    """Killed at any call to the store, before or after it was carried out, and started anew: nothing lost or twice."""
    live = begin(script)
    fates = [Fate(at, after) for at, after in deaths]
    for slot in range(SLOTS):
        tell(live, script, slot)
        try:
            if fates:
                live.start(fates.pop())
            live.step()
        except Killed:
            live.start()
            live.step()
    live.start()  # whoever was to die at a later call has outlived the script
    finish(live, script)

    assert ids(expected_events(script)) == ids(standing(live.events))


@TIMES
@given(scripts(late=True), st.lists(st.sampled_from([0, 1]), min_size=SLOTS, max_size=SLOTS))
def test_two_at_once_are_one(script, turns):
    """Two engines that take turns, as two leaders would, log each event once, under the ids of one."""
    live = begin(script)
    engines = [live.engine, live.start()]
    for slot in range(SLOTS):
        tell(live, script, slot)
        engines[turns[slot]].step()
        if not engines[1 - turns[slot]].step():
            assert engines[1 - turns[slot]].step(), "it goes on from what the other has logged"
    finish(live, script)

    assert ids(expected_events(script)) == ids(standing(live.events))
