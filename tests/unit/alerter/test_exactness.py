"""Numbers are exact, and the same to the bit however a stretch of slots is cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerter.evaluation.events import to_events
from services.alerter.evaluation.means import last_sums, neighbour_sums
from services.alerter.evaluation.steps import Block, history, open_episodes, restore, step
from services.core.breach_documents import event_text
from services.core.rules import Frozen, Missing, Ratio, RatioMode, Rule, Threshold
from tests.support.evaluating import START, Evaluated, block_of, named, same_state

RULES = [
    Rule("ratio", Ratio(window=5, min_points=2, resolve_after=2)),
    Rule("row", Ratio(window=7, min_points=1, resolve_after=3), for_points=2),
    Rule("limit", Threshold(above=3, below=0.5, resolve_after=2), for_points=3),
    Rule("gone", Missing(2)),
    Rule("stuck", Frozen(3), for_points=2),
]

MAGNITUDES = st.floats(1e-12, 1e12, allow_nan=False)
SIGNED = st.floats(-1e12, 1e12, allow_nan=False)
POINTS = st.lists(st.one_of(MAGNITUDES, st.none()), min_size=61, max_size=75)


@settings(max_examples=60, deadline=None)
@given(values=POINTS, window=st.integers(2, 60))
def test_a_mean_is_that_of_an_exact_sum(values, window):
    """To 1e-12 of math.fsum over the points there are, however far apart they lie; none is carried along."""
    text = " ".join("_" if value is None else repr(value) for value in values)
    rule = Rule("every", Ratio(factor=1e-30, window=window, min_points=1, resolve_factor=1e-30))
    found = Evaluated(rule, text)
    for event in found.events:
        if event.kind.value == "breach":
            place = event.slot - START
            before = [value for value in values[max(0, place - window) : place] if value is not None]
            assert event.point_count == len(before)
            assert event.baseline == pytest.approx(math.fsum(before) / len(before), rel=1e-12, abs=0)
    present = [
        place
        for place, value in enumerate(values)
        if value is not None and any(each is not None for each in values[max(0, place - window) : place])
    ]
    assert [event.slot - START for event in found.events if event.kind.value == "breach"] == present


@settings(max_examples=60, deadline=None)
@given(values=st.lists(SIGNED, min_size=61, max_size=61), window=st.integers(2, 60))
def test_a_mean_of_signed_values_errs_by_no_more_than_their_magnitudes_allow(values, window):
    """Sums that cancel are off by 1e-12 of the sum of magnitudes at most."""
    sums = neighbour_sums(np.array(values), window)
    for place, got in enumerate(sums.tolist()):
        part = values[place : place + window]
        assert abs(got - math.fsum(part)) <= 1e-12 * math.fsum(map(abs, part))


VALUES = st.sampled_from(["_", "_", "1", "1", "0.1", "2", "4.7", "9"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_cutting_changes_nothing(rule, data):
    """Neither events nor numbers nor the state, to the bit; and a state restored from its episodes goes on alike."""
    length = data.draw(st.integers(10, 40))
    texts = {name: " ".join(data.draw(st.lists(VALUES, min_size=length, max_size=length))) for name in ("AAA", "BBB")}
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), max_size=4)))
    whole = Evaluated(rule, texts)
    block, series = whole.block, [named(name) for name in texts]
    state = restore(rule, series, START - 1, block_of(rule, [*texts.values()]), expected_from=START)
    events = []
    for cut in [*cuts, length]:
        first = int(state.evaluated.min()) + 1 - history(rule)
        part = Block(first, block.values[:, first - block.start : START + cut - block.start])
        state, found = step(state, part, START + cut - 1, rule)
        events += to_events(found, state, rule)
        again = restore(rule, series, START + cut - 1, block, expected_from=START, episodes=open_episodes(state, rule))
        assert same_state(again, state)
        state = again

    assert [event_text(event) for event in events] == [event_text(event) for event in whole.events]
    assert same_state(state, whole.state)


def test_a_literal_mean_of_signed_values_is_of_the_values():
    """Not of their magnitudes."""
    literal = Rule("l", Ratio(window=4, min_points=2, mode=RatioMode.LITERAL))
    found = Evaluated(literal, {"AAA/change_absolute": "3 -1 3 -1 3.5"})
    assert [(event.baseline, event.ratio) for event in found.events] == [(1, 3.5)]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(SIGNED, min_size=61, max_size=75), window=st.integers(2, 60))
def test_one_window_alone_is_summed_as_among_many(values, window):
    """To the bit: live evaluation asks for one slot at a time, a replay for a day."""
    many = neighbour_sums(np.array(values), window)
    alone = [last_sums(np.array([values[: place + window]]), window)[0] for place in range(len(many))]
    assert many.tobytes() == np.array(alone).tobytes()
