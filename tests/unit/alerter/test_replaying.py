"""A rule run over history: the same events however the history is cut, and as evaluated at once."""

from __future__ import annotations

import numpy as np
import pytest

from services.alerter.evaluation.steps import Block, history
from services.alerter.trial import replaying
from services.alerter.trial.replaying import Replay, replay, selected
from services.core.model import Measure, Series, Slot, Window
from services.core.rules import Frozen, Missing, Ratio, Rule, Selector, Threshold
from tests.support.evaluating import START, Evaluated, named

RULES = [
    Rule("ratio", Ratio(window=5, min_points=2), for_points=2),
    Rule("limit", Threshold(above=3)),
    Rule("gone", Missing(2)),
    Rule("stuck", Frozen(3)),
]
TEXTS = {
    "AAA": "1x9 5 9 1x3 _x4 1x9 4 5 4x20 1x6 _ 9 9 1",
    "BBB": "_x9 1x9 9 9 9 _ _ 1x9 9 9 1x9 _x9 1",
    "KRAKEN:CCC": "2x12 7 7 7 7 2x12 8 9 2x30",
}


def over(rule: Rule, evaluated: Evaluated, *, most_events: int = 10_000, live_from: int = START) -> Replay:
    """Replay the rule over the same values, read window by window."""
    block = evaluated.block

    def read(window: Window) -> Block:
        first, end = window.start - block.start, window.end - block.start
        return Block(window.start, block.values[:, first:end])

    window = Window(START, Slot(block.end))
    series = [named(name) for name in TEXTS]
    return replay(rule, series, window, read, most_events=most_events, live_from=Slot(live_from))


@pytest.mark.parametrize("values_at_once", [1, 30, 10_000])
def test_before_the_log_was_opened_nothing_is_missing_that_was_never_there(values_at_once, monkeypatch):
    """However little is held at a time: BBB has its first point at 9, and from there on its holes count."""
    monkeypatch.setattr(replaying, "_VALUES_AT_ONCE", values_at_once)
    rule = Rule("gone", Missing(2), Selector(exchanges=("SIM",)))
    always, opened = (over(rule, Evaluated(rule, TEXTS), live_from=START + slot) for slot in (0, 15))
    first = [event for event in always.events if event.slot <= START + 9]

    assert [(event.kind.value, event.slot - START) for event in first] == [("breach", 1), ("resolved", 9)]
    assert list(map(repr, opened.events)) == list(map(repr, always.events[2:]))
    assert len(opened.events) > 1


@pytest.mark.parametrize("values_at_once", [1, 30, 100, 10_000])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_replay_finds_what_evaluation_finds(rule, values_at_once, monkeypatch):
    """Event by event, however little of the history is held at a time."""
    monkeypatch.setattr(replaying, "_VALUES_AT_ONCE", values_at_once)
    evaluated = Evaluated(rule, TEXTS)
    found = over(rule, evaluated)
    breaches = [event for event in evaluated.events if event.kind.value == "breach"]

    assert [repr(event) for event in found.events] == [repr(event) for event in evaluated.events]
    assert len(found.events) > 3
    assert found.breach_count == len(breaches)
    assert found.episode_count == sum(event.opening for event in breaches)
    assert found.point_count == np.count_nonzero(~np.isnan(evaluated.block.values[:, history(rule) :]))
    assert (found.series_count, found.days) == (3, len(found.window) / 1440)


@pytest.mark.parametrize("most", [0, 1, 5])
def test_only_the_first_events_are_kept_and_all_are_counted(most, monkeypatch):
    """Also where they come from several parts of the history."""
    monkeypatch.setattr(replaying, "_VALUES_AT_ONCE", 1)
    evaluated = Evaluated(RULES[1], TEXTS)
    found = over(RULES[1], evaluated, most_events=most)

    assert [event.id for event in found.events] == [event.id for event in evaluated.events[:most]]
    assert found.breach_count == over(RULES[1], evaluated).breach_count > 5


def test_a_rule_that_selects_nothing_finds_nothing():
    """And reads nothing."""
    window = Window(START, Slot(START + 10))
    found = replay(RULES[0], [], window, lambda _window: pytest.fail("nothing to read"), most_events=1)

    assert found == Replay((), 0, 0, 0, 0, window)


def test_missing_rules_are_about_what_is_expected_and_others_about_what_is_stored_too():
    """Each narrowed by the rule's selector, in ascending order."""
    expected = (Series("SIM:A", Measure.PRICE), Series("SIM:C", Measure.PRICE))
    stored = (Series("SIM:B", Measure.PRICE), Series("SIM:C", Measure.PRICE), Series("SIM:C", Measure.VOLUME))
    only = Selector(measures=("price",))

    assert selected(Rule("a", Missing(), only), expected, stored) == expected
    assert selected(Rule("a", Frozen(), only), expected, stored) == (expected[0], stored[0], expected[1])
