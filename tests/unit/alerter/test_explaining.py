"""Explanations: at every slot they say what evaluation did there, and why, with the numbers that decided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerter.evaluation.events import to_events
from services.alerter.evaluation.steps import Block, open_episodes, restore, step
from services.alerter.trial.explaining import Question, explain
from services.alerter.trial.explanations import Explanation, Standing
from services.core.breaches import EventKind
from services.core.model import Slot, Window
from services.core.rules import Frozen, Missing, Ratio, RatioMode, Rule, Threshold
from tests.support.evaluating import START, block_of, named

RULES = [
    Rule("ratio", Ratio(window=4, min_points=2, resolve_after=2)),
    Rule("row", Ratio(window=6, min_points=3, resolve_after=3), for_points=2),
    Rule("limit", Threshold(above=3, below=0.5, resolve_after=2)),
    Rule("gone", Missing(2)),
    Rule("stuck", Frozen(3), for_points=2),
]


def explained(
    rule: Rule,
    texts: dict[str, str] | str,
    at: int,
    *,
    began: int = START,
    live_from: int = START,
    know: bool = False,
) -> Explanation:
    """Explain the first of these series at a slot, counted from the first value.

    `know`: with the episodes that are open at the end known, as a service knows them.
    """
    texts = {"AAA": texts} if isinstance(texts, str) else texts
    block = block_of(rule, [*texts.values()])

    def read(window: Window) -> Block:
        values = np.full((len(texts), len(window)), np.nan)
        first, end = max(window.start, block.start), min(window.end, block.end)
        if first < end:
            part = block.values[:, first - block.start : end - block.start]
            values[:, first - window.start : end - window.start] = part
        return Block(window.start, values)

    series = tuple(named(name) for name in texts)
    episodes = ()
    if know:
        state = restore(rule, series, START - 1, block, expected_from=START)
        state, _ = step(state, block, block.end - 1, rule)
        episodes = open_episodes(state, rule)
    question = Question(rule, series, 0, Slot(START + at), Slot(began), episodes, Slot(live_from))
    return explain(question, read)


VALUES = st.sampled_from(["_", "_", "1", "1", "1", "2", "4", "9"])
TEXT = st.lists(VALUES, min_size=12, max_size=24).map(" ".join)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@settings(max_examples=6)
@given(text=TEXT, other=TEXT, know=st.booleans())
def test_an_explanation_agrees_with_what_evaluation_did(rule, text, other, know):
    """At every slot: whether it fired, what was open before and after, and its id."""
    texts = {"AAA": text, "BBB": other} if isinstance(rule.condition, Missing) else {"AAA": text}
    series = [named(name) for name in texts]
    block = block_of(rule, [*texts.values()])
    state = restore(rule, series, START - 1, block, expected_from=START)
    before: set[str] = set()
    for slot in range(START, START + len(text.split())):
        state, columns = step(state, block, slot, rule)
        events = [event for event in to_events(columns, state, rule) if event.subject.metric != "SIM:BBB"]
        subjects = {event.subject for event in events}
        breached = any(event.kind is EventKind.BREACH for event in events)
        episodes = [each for each in open_episodes(state, rule) if each.opening.subject.metric != "SIM:BBB"]
        after = {each.opening.episode_id for each in episodes}

        found = explained(rule, texts, slot - START, know=know)

        assert found.breached == breached, (slot - START, subjects)
        assert (found.after in {Standing.OPEN, Standing.STALE}) == bool(after)
        assert (found.before in {Standing.OPEN, Standing.STALE}) == bool(before)
        assert (found.after is Standing.STALE) == any(each.stale for each in episodes)
        assert found.episode_id in after or (not after and not found.episode_id)
        assert found.text.startswith("fired at" if breached else "did not fire at")
        before = after


HOUR = Rule("hour", Ratio(window=4, min_points=2))

CASES = [
    (HOUR, "1x4 2", 4, Standing.OK, "is 2, 2 times its average of the last 4m (1, of 4 points), not above 3"),
    (HOUR, "1x4 9", 4, Standing.OPEN, "is 9 times its average of the last 4m: 9 against 1 (4 points)"),
    (HOUR, "1x4 _", 4, Standing.NO_POINT, "has no point in this slot"),
    (HOUR, "_ _ _ 1 9", 4, Standing.INSUFFICIENT_DATA, "the 4m before SIM:AAA volume_1m holds 1 points, fewer than 2"),
    (HOUR, "0x4 9", 4, Standing.NOT_APPLICABLE, "the average before SIM:AAA volume_1m is 0"),
    (HOUR, "1x4 9 _ _ _", 7, Standing.STALE, "has had no point for 3 minutes; out of line since"),
    (HOUR, "1x4 9 _ _ _ _", 8, Standing.STALE, "an episode is open, and points have stopped coming"),
    (HOUR, "1x4 9 1", 5, Standing.OPEN, "not above 9; an episode that opened before is still open"),
    (
        Rule("row", Ratio(window=4, min_points=2), for_points=2),
        "1x4 9",
        4,
        Standing.PENDING,
        "is out of line at 9, but for fewer than 2 points in a row",
    ),
    (Rule("l", Threshold(above=3)), "1 2", 1, Standing.OK, "is 2, not above 3"),
    (Rule("l", Threshold(above=3, below=1)), "1 2", 1, Standing.OK, "is 2, not above 3 and not below 1"),
    (Rule("g", Missing(3)), "1 1", 1, Standing.OK, "SIM:AAA volume_1m has a point, 1"),
    (Rule("g", Missing(3)), "1 _ _", 2, Standing.NO_POINT, "no point for 2 of the 3 slots in a row that the rule asks"),
    (Rule("g", Missing(3)), "1 _ _ _", 3, Standing.OPEN, "fired at 2025-02-19T21:23Z: SIM:AAA volume_1m has had no"),
    (Rule("g", Missing(3)), "1 _ _ _ _", 4, Standing.OPEN, "no point for 4 slots in a row, of which the first 3 were"),
    (
        Rule("f", Frozen(3)),
        "1 2 2",
        2,
        Standing.OK,
        "is 2, equal for 2 of the 3 points in a row that the rule",
    ),
]


@pytest.mark.parametrize(("rule", "text", "at", "standing", "words"), CASES)
def test_an_explanation_says_what_decided(rule, text, at, standing, words):
    """Where the series stands, and in a sentence why."""
    found = explained(rule, text, at)

    assert found.after is standing
    assert words in found.text


def test_the_numbers_are_there_whether_or_not_it_fired():
    """Value, mean, ratio, limit and points; of magnitudes where signs are left out; NaN where nothing applies."""
    quiet = explained(HOUR, {"AAA/change_absolute": "1 -1 _ 1 -2"}, 4).numbers
    assert (quiet.value, quiet.baseline, quiet.ratio, quiet.threshold, quiet.point_count) == (-2, 1, 2, 3, 3)
    literal = Rule("l", Ratio(window=4, min_points=2, mode=RatioMode.LITERAL))
    assert explained(literal, {"AAA/change_absolute": "1 -1 1 1 -2"}, 4).numbers.baseline == 0.5
    low = explained(Rule("l", Threshold(above=10, below=2)), "3", 0).numbers
    assert (low.threshold, low.ratio) == (2, 1.5)
    stuck = explained(Rule("f", Frozen(5)), "1 2 _ 2 2", 4).numbers
    assert (stuck.value, stuck.baseline, stuck.point_count, math.isnan(stuck.threshold)) == (2, 2, 3, True)


def test_a_long_episode_is_found_however_far_back_it_opened():
    """A day before the slot is not enough to tell when it opened; the episode has the id it has in the log."""
    rule = Rule("limit", Threshold(above=3))
    found = explained(rule, "1x10 9x6000", 6000)
    assert found.after is Standing.OPEN
    assert found.episode_id == explained(rule, "1x10 9x6000", 10).episode_id


def test_an_exchange_that_is_missing_explains_its_series():
    """Its one breach is that of every series."""
    found = explained(Rule("gone", Missing(2)), {"AAA": "1 _ _", "BBB": "1 _ _"}, 2)
    assert (found.breached, found.after) == (True, Standing.OPEN)
    assert "SIM: no series has had a point for 2 minutes" in found.text


def test_what_lies_before_the_first_evaluation_is_explained_as_if_it_had_been():
    """Slots before the alerter began have points too."""
    found = explained(HOUR, "1x4 9 1x20", 4, began=START + 20)
    assert (found.breached, found.after) == (True, Standing.OPEN)


def test_what_was_not_there_before_the_opening_of_the_log_was_not_missing():
    """Nor is what is said of it another thing than what the log has: a hole after a first point is one."""
    gone, opening = Rule("gone", Missing(2)), START + 9
    never = explained(gone, {"AAA": "_x12", "BBB": "1x12"}, 8, live_from=opening)
    after = explained(gone, {"AAA": "_x12", "BBB": "1x12"}, 10, live_from=opening)
    hole = explained(gone, {"AAA": "_ _ 1 _x9", "BBB": "1x12"}, 4, live_from=opening)

    assert (never.breached, never.after, never.numbers.point_count) == (False, Standing.NO_POINT, 0)
    assert (after.breached, after.after, after.numbers.point_count) == (True, Standing.OPEN, 2)
    assert (hole.breached, hole.after, hole.numbers.point_count) == (True, Standing.OPEN, 2)


def test_an_open_episode_that_is_known_is_stale_where_its_points_stopped():
    """Whether it was stale before the slot follows from the points before it."""
    rule = Rule("limit", Threshold(above=3))
    standings = [
        (found.before, found.after) for found in (explained(rule, "9 _ _ _ _ 1 1", at, know=True) for at in (3, 4, 5))
    ]
    assert standings == [
        (Standing.OPEN, Standing.STALE),
        (Standing.STALE, Standing.STALE),
        (Standing.STALE, Standing.OPEN),
    ]
