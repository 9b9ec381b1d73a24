"""What changes while episodes are open: rules, what is expected, and the past; each a worked example."""

from __future__ import annotations

import pytest

from services.core.errors import InvalidInputError
from services.core.model import Series
from services.core.rules import Missing, Ratio, Rule, Selector, Threshold
from tests.support.live import FIRST, Live, Told, series

AAA, BBB = series("SIM:AAA"), series("SIM:BBB")
LIMIT = Rule("limit", Threshold(above=3, resolve_after=2))
HOUR = Rule("hour", Ratio(window=4, min_points=2))


def begin(rules: list[Rule], expected: list[Series]) -> Live:
    """Start evaluating; slot 0 is the first that is evaluated."""
    live = Live(rules, expected)
    live.step()
    return live


def tell(live: Live, slot: int, **values: float) -> None:
    """Let a slot end with points of SIM:AAA and so on, and evaluate it."""
    live.at(slot, 3)
    live.write([Told(series(f"SIM:{name}"), slot, value) for name, value in values.items()])
    live.run(slot, "SIM")
    live.step()


def told(live: Live) -> list[str]:
    """Return the log, an event a line: KIND[/REASON] @SLOT RULE SUBJECT [late]."""
    return [
        f"{event.kind.value}{f'/{event.reason.value}' if event.reason else ''} @{event.slot - FIRST} "
        f"{event.rule} {event.subject.metric or event.subject.exchange}{' late' if event.late else ''}"
        for event in live.events
    ]


def test_a_changed_rule_goes_on_with_its_episode_and_judges_the_next_point():
    """The episode keeps its id; its further events carry the rule's new version."""
    live = begin([LIMIT], [AAA])
    tell(live, 0, AAA=9)
    higher = Rule("limit", Threshold(above=10, resolve_after=1))
    live.rules.set([higher], [AAA])
    tell(live, 1, AAA=9)

    assert told(live) == ["breach @0 limit SIM:AAA", "resolved/calm @1 limit SIM:AAA"]
    opening, end = live.events
    assert (opening.rule_version, end.rule_version) == (LIMIT.version, higher.version)
    assert end.episode_id == opening.episode_id


def test_a_rule_that_is_removed_ends_its_episodes():
    """With the reason, at the next slot to evaluate, and nothing more."""
    live = begin([LIMIT, HOUR], [AAA])
    tell(live, 0, AAA=9)
    live.rules.set([HOUR], [AAA])
    tell(live, 1, AAA=9)
    tell(live, 2, AAA=9)

    assert told(live) == ["breach @0 limit SIM:AAA", "resolved/removed @1 limit SIM:AAA"]


def test_a_rule_that_no_longer_selects_a_series_ends_its_episode_there_alone():
    """Those of other series go on."""
    live = begin([LIMIT], [AAA, BBB])
    tell(live, 0, AAA=9, BBB=9)
    live.rules.set([Rule("limit", LIMIT.condition, Selector(metrics=("*:BBB",)))], [AAA, BBB])
    tell(live, 1, AAA=9, BBB=9)

    assert told(live) == [
        "breach @0 limit SIM:AAA",
        "breach @0 limit SIM:BBB",
        "resolved/removed @1 limit SIM:AAA",
        "breach @1 limit SIM:BBB",
    ]


def test_a_series_that_is_expected_no_more_ends_its_missing_episode():
    """Who takes a pair out of the catalog wants no alert about it."""
    live = begin([Rule("gone", Missing(2))], [AAA, BBB])
    for slot in range(3):
        tell(live, slot, BBB=1)
    live.rules.set([Rule("gone", Missing(2))], [BBB])
    tell(live, 3, BBB=1)

    assert told(live) == ["breach @1 gone SIM:AAA", "resolved/removed @3 gone SIM:AAA"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_series_that_comes_in_is_missing_from_then_on_only(restarted):
    """Who adds a pair to the catalog gets no alert before its first points could be there; restarts change nothing."""
    gone = [Rule("gone", Missing(2))]
    live = begin(gone, [AAA])
    for slot in range(5):
        tell(live, slot, AAA=1)
    live.rules.set(gone, [AAA, BBB])
    for slot in range(5, 9):
        if restarted:
            live.start()
        tell(live, slot, AAA=1)

    assert told(live) == ["breach @6 gone SIM:BBB"]


def test_a_series_that_comes_in_again_is_missing_from_then_on_only():
    """It is as if it came for the first time, where it has had no point meanwhile; with points nothing is missing."""
    gone = [Rule("gone", Missing(2))]
    live = begin(gone, [AAA])
    for slot, expected in enumerate([[AAA], [AAA, BBB], [AAA], [AAA], [AAA, BBB]]):
        live.rules.set(gone, expected)
        tell(live, slot, AAA=1)
    tell(live, 5, AAA=1, BBB=1)
    tell(live, 6, AAA=1, BBB=1)

    assert told(live) == []


def test_a_new_rule_begins_with_the_next_slot():
    """What was before it is not evaluated again; points before it are its past all the same."""
    live = begin([HOUR], [AAA])
    for slot in range(3):
        tell(live, slot, AAA=1)
    tell(live, 3, AAA=9)
    live.rules.set([HOUR, LIMIT], [AAA])
    live.step()
    assert told(live) == ["breach @3 hour SIM:AAA"]
    tell(live, 4, AAA=9)

    assert told(live) == ["breach @3 hour SIM:AAA", "breach @4 limit SIM:AAA"]


def test_a_late_point_that_breaches_is_logged_late():
    """With the slot it is of; the hour it touches is judged anew: of 4 it is no breach that comes after 9."""
    live = begin([HOUR], [AAA])
    for slot in range(3):
        tell(live, slot, AAA=1)
    tell(live, 3)
    tell(live, 4, AAA=4)
    live.write([Told(AAA, 3, 9.0)])
    live.step()

    assert told(live) == [
        "breach @4 hour SIM:AAA",
        "withdrawn @4 hour SIM:AAA late",
        "breach @3 hour SIM:AAA late",
    ]
    first, gone, _ = live.events
    assert gone.withdrawn_id == first.id


def test_a_late_point_that_changes_nothing_is_no_news():
    """Written again with the same value, or in line as it was missing."""
    live = begin([HOUR], [AAA])
    for slot in (0, 1, 3):
        tell(live, slot, AAA=1)
    live.write([Told(AAA, 3, 1.0), Told(AAA, 2, 1.0)])
    live.step()

    assert told(live) == []


def test_a_late_point_may_end_an_episode():
    """Missing points that come after all: what was missing never was."""
    live = begin([Rule("gone", Missing(2))], [AAA, BBB])
    tell(live, 0, AAA=1, BBB=1)
    for slot in (1, 2, 3):
        tell(live, slot, BBB=1)
        live.at(slot + 1, 3)
        live.step()
    assert told(live) == ["breach @2 gone SIM:AAA"]
    live.write([Told(AAA, 1, 1.0), Told(AAA, 2, 1.0), Told(AAA, 3, 1.0)])
    live.step()

    assert told(live) == ["breach @2 gone SIM:AAA", "withdrawn @2 gone SIM:AAA late"]
    assert live.state.episodes == ()


def test_points_of_the_future_are_refused():
    """One wrong time must not move evaluation on: the store takes none beyond the slot after the one in progress."""
    live = begin([LIMIT], [AAA])
    tell(live, 0, AAA=1)
    with pytest.raises(InvalidInputError, match="lies in the future"):
        live.write([Told(AAA, 4, 9.0)])
    live.step()

    assert told(live) == []
