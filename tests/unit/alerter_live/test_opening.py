"""A log that is new begins with what the store has of the last day: what is told of it, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from services.core.breaches import EventKind, Position
from services.core.model import DAY_SLOTS, Series, Slot, Window
from services.core.rules import Missing, Ratio, Rule
from tests.support.live import FIRST, Fate, Killed, Live, Mortal, Told, ids, replayed, series, texts

AAA, BBB, NEVER = series("SIM:AAA"), series("SIM:BBB"), series("SIM:NEVER")
SURGE = Rule("surge", Ratio(window=10, min_points=3, resolve_after=2))
MISSING = Rule("missing", Missing(3))

History = dict[tuple[Series, int], float]


def steady(each: Series, first: int, end: int, **surges: float) -> History:
    """Return a point of 1 in each of these slots; `at_12=9` puts another value 12 slots before the opening."""
    other = {-int(name.removeprefix("at_")): value for name, value in surges.items()}
    return {(each, slot): other.get(slot, 1.0) for slot in range(first, end)}


def opened(points: History, expected: tuple[Series, ...] = (), *, fate: Fate | None = None) -> Live:
    """Start on a store that has these points already, in slot 0."""
    live = Live([SURGE, MISSING], expected)
    live.write(Told(each, slot, value) for (each, slot), value in points.items())
    live.start(fate)
    live.step()
    return live


def told(live: Live) -> list[str]:
    """What is in the log, as KIND RULE SUBJECT @SLOT."""
    return [text.rsplit(" ", 1)[0] for text in ids(live.events)]


def test_a_new_log_has_the_breaches_of_the_day_at_once() -> None:
    """In the order and in the places in which they would have been found, none of them late; then it goes on."""
    points = steady(AAA, -1300, 0, at_1200=9, at_500=9, at_1=9)
    live = opened(points)
    at_once, state = texts(live.events), live.state
    live.write([Told(AAA, 0, 9.0)])
    live.settle(0)

    assert [line for line in told(live) if "breach" in line] == [
        f"breach surge SIM:AAA volume_1m @{slot}" for slot in (-1200, -500, -1, 0)
    ]
    assert texts(replayed([SURGE], points, [], -1, began=-1300)) == at_once
    assert not any(event.late for event in live.events)
    assert (state.began, state.live_from, state.evaluated) == (FIRST - 1300, FIRST, FIRST - 2)
    entries = live.store.breach_log.read_after(Position(Slot(FIRST - 1300), 0), 100)
    assert [entry.position.slot for entry in entries] == [entry.event.slot for entry in entries]


def test_no_log_begins_more_than_a_day_back() -> None:
    """What is older serves as the past: the first slots have an average at once."""
    live = opened(steady(AAA, -1700, 0, at_1500=9, at_1440=9))

    assert told(live)[0] == "breach surge SIM:AAA volume_1m @-1440"
    assert live.state.began == FIRST - DAY_SLOTS


def test_what_was_never_collected_is_missing_from_the_opening_only() -> None:
    """Nobody had installed anything before: neither a series without points, nor one whose points begin later."""
    live = opened(steady(AAA, -40, 0) | steady(BBB, -20, 0), (AAA, BBB, NEVER))
    for slot in range(4):
        live.at(slot, 3)
        live.write([Told(AAA, slot, 1.0), Told(BBB, slot, 1.0)])
        live.step()
    live.settle(3)

    assert told(live) == ["breach missing SIM:NEVER volume_1m @2"]


def test_a_hole_between_points_of_the_history_is_missing() -> None:
    """Its series did have points, so it is an outage, and of all that the exchange had by then, one of the exchange."""
    whole = steady(AAA, -40, -30) | steady(AAA, -25, 0) | steady(BBB, -35, -30) | steady(BBB, -25, -10)
    live = opened(whole, (AAA, BBB, NEVER))

    assert told(live) == [
        "breach missing SIM @-28",
        "resolved missing SIM @-25",
        "breach missing SIM:BBB volume_1m @-8",
    ]


def test_a_first_point_while_all_others_are_missing_is_no_outage_of_the_exchange() -> None:
    """The exchange answers: the series that are missing have breaches of their own."""
    live = opened(steady(AAA, -40, -30) | steady(BBB, -40, -30) | steady(NEVER, -28, 0), (AAA, BBB, NEVER))

    assert told(live) == ["breach missing SIM:AAA volume_1m @-28", "breach missing SIM:BBB volume_1m @-28"]


@pytest.mark.parametrize("restart", [False, True])
def test_in_an_empty_store_the_first_points_say_where_the_history_begins(*, restart: bool) -> None:
    """A collector that comes up after the alerter and repairs hours is evaluated like what was there, as late."""
    live = opened({}, (AAA, NEVER))
    live.at(0, 3)
    points = steady(AAA, -300, 1, at_200=9)
    live.write(Told(each, slot, value) for (each, slot), value in points.items())
    if restart:
        live.start()
    live.step()
    live.write(Told(AAA, slot, 50.0 if slot == -400 else 1.0) for slot in range(-500, -320))
    live.step()

    assert told(live) == ["breach surge SIM:AAA volume_1m @-200", "resolved surge SIM:AAA volume_1m @-198"]
    assert all(event.late for event in live.events)
    assert live.state.began == FIRST - 300


def test_points_that_come_before_the_beginning_are_the_past_of_its_first_slots() -> None:
    """What they make of the first averages is evaluated again, as a replay has it; nothing before is."""
    points = steady(AAA, -30, 0, at_29=9)
    live = opened(points)
    without = told(live)
    older = steady(AAA, -60, -30, at_40=9)
    live.write(Told(each, slot, value) for (each, slot), value in older.items())
    live.step()

    assert without == []
    assert ids(replayed([SURGE], points | older, [], -1, began=-30)) == ids(live.events)
    assert told(live)[0] == "breach surge SIM:AAA volume_1m @-29"


def test_an_opening_that_is_killed_anywhere_is_completed_by_the_next() -> None:
    """Before or after any of its calls to the store: the log has the same entries in the same places."""
    points = steady(AAA, -900, 0, at_800=9, at_300=9, at_2=9) | steady(BBB, -700, -600) | steady(BBB, -590, 0)

    def logged(live: Live) -> list[tuple[Any, str]]:
        entries = live.store.breach_log.read_after(Position(Slot(FIRST - 900), 0), 100)
        return list(zip([entry.position for entry in entries], texts(e.event for e in entries), strict=True))

    whole = Fate()
    expected = logged(opened(points, (AAA, BBB, NEVER), fate=whole))
    assert whole.calls > 15
    for call in range(whole.calls):
        for after in (False, True):
            live = Live([SURGE, MISSING], (AAA, BBB, NEVER))
            live.write(Told(each, slot, value) for (each, slot), value in points.items())
            live.start(Fate(call, after=after))
            with pytest.raises(Killed):
                live.engine.step()
            live.start()
            live.at(0, 1)  # a minute later it is still the same opening
            live.step()
            assert logged(live)[: len(expected)] == expected, f"killed at call {call}"
            assert live.state.live_from in {FIRST, FIRST + 1}


def test_a_day_is_read_a_piece_at_a_time() -> None:
    """However many series there are, memory holds no more of them than a piece and what rules look back on."""
    live = Live([SURGE, MISSING], (AAA,))
    live.write(Told(AAA, slot, 1.0) for slot in range(-DAY_SLOTS, 0))
    lengths: list[int] = []

    class Measured(Mortal):
        def read_window(self, window: Window, *more: Any) -> Any:
            found = live.store.read_window(window, *more)
            lengths.append(len(window) if found.series else 0)
            return found

    live.reader.inner = Measured(live.store, Fate())
    live.step()

    assert live.state.evaluated == FIRST - 2
    assert DAY_SLOTS <= sum(lengths)
    assert max(lengths) < DAY_SLOTS // 2


def test_a_clock_that_was_fast_at_the_opening_takes_the_opening_back_too() -> None:
    """A series never seen is missing from the true opening on, not from one in a future that never was."""
    live = Live([SURGE, MISSING], (AAA, NEVER))
    live.write(Told(AAA, slot, 1.0) for slot in range(-5, 0))
    right = live.clock.now()
    live.clock.set(right + 3600)
    live.step()
    live.clock.set(right)
    live.step()
    for slot in range(4):
        live.at(slot, 3)
        live.write([Told(AAA, slot, 1.0)])
        live.step()
    live.settle(3)

    breaches = [event for event in live.events if event.kind is EventKind.BREACH and event.slot < FIRST + 10]
    assert [line for line in ids(breaches) if "NEVER" in line][-1].startswith("breach missing SIM:NEVER volume_1m @2")


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_a_late_point_in_the_history_leaves_the_holes_of_others(*, empty: bool, restart: bool) -> None:
    """Who had a point before is remembered, or read again, when a stretch in the middle is evaluated anew."""
    points = steady(AAA, -600, -500) | steady(AAA, -490, 0) | steady(BBB, -600, 0)
    live = opened({} if empty else points, (AAA, BBB))
    if empty:
        live.write(Told(each, slot, value) for (each, slot), value in points.items())
        live.step()
    before = told(live)
    if restart:
        live.start()
    live.write([Told(BBB, -499, 2.0)])
    live.step()

    assert before == ["breach missing SIM:AAA volume_1m @-498", "resolved missing SIM:AAA volume_1m @-490"]
    assert told(live) == before
