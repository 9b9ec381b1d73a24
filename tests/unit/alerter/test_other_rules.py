"""What threshold, frozen and missing rules mean: each test is a sentence of DESIGN's alerter."""

from __future__ import annotations

import math

from services.core.rules import Frozen, Missing, Rule, Threshold
from tests.support.evaluating import Evaluated


def threshold(texts, *, for_points=1, **fields):
    """Evaluate a threshold rule."""
    return Evaluated(Rule("limit", Threshold(**{"resolve_after": 2, **fields}), for_points=for_points), texts)


def frozen(texts, points=3, for_points=1):
    """Evaluate a frozen rule."""
    return Evaluated(Rule("frozen", Frozen(points), for_points=for_points), texts)


def missing(texts, slots=3, **more):
    """Evaluate a missing rule."""
    return Evaluated(Rule("missing", Missing(slots)), texts, **more)


def test_a_threshold_is_strict_on_both_sides():
    """At the number itself a value is in line."""
    assert threshold("10 10.5 9", above=10).told == ["breach @1 AAA"]
    assert threshold("10 9.5 10", below=10).told == ["breach @1 AAA"]
    found = threshold("0 11 -11", above=10, below=-10)
    assert [(e.threshold, e.baseline, e.value, e.ratio) for e in found.events] == [
        (10, 10, 11, 1.1),
        (-10, -10, -11, 1.1),
    ]
    assert found.told == ["breach @1 AAA", "breach @2 of @1 AAA"], "one episode for both sides"


def test_a_threshold_needs_no_window():
    """The very first point may breach."""
    assert threshold("11", above=10).told == ["breach @0 AAA"]


def test_a_threshold_resolves_after_points_in_line_only():
    """There is no other hysteresis, and no rebasing however long it lasts."""
    assert threshold("11 10 11 10 9", above=10).told == [
        "breach @0 AAA",
        "breach @2 of @0 AAA",
        "resolved/calm @4 of @0 AAA",
    ]
    assert len(threshold("11x3000", above=10).open) == 1


def test_a_threshold_goes_stale_and_waits_for_points_in_a_row_as_a_ratio_does():
    """The course of an episode is the same."""
    assert threshold("11 _x5 9 9", above=10).told == [
        "breach @0 AAA",
        "stale @3 of @0 AAA",
        "resolved/calm @7 of @0 AAA",
    ]
    assert threshold("11 9 11 _ 11", above=10, for_points=2).told == ["breach @4 AAA"]


def test_a_frozen_series_breaches_with_the_point_that_ends_the_row_and_with_each_that_follows():
    """Three equal points in a row, and on."""
    found = frozen("1 2 2 2 2 3")
    assert found.told == ["breach @3 AAA", "breach @4 of @3 AAA", "resolved/data_returned @5 of @3 AAA"]
    assert [(e.value, e.baseline, e.point_count) for e in found.events] == [(2, 2, 3), (2, 2, 4), (3, 2, 4)]


def test_missing_slots_neither_count_nor_break_a_row_of_equal_points():
    """A hole is no change, and no point either."""
    assert frozen("2 _ 2 _ _ 2").told == ["breach @5 AAA"]
    assert frozen("2 2 _ _").told == []
    assert frozen("2 2 _x3 2 2").told == [], "a stale series starts anew"


def test_a_frozen_episode_goes_stale_and_goes_on():
    """Only another value ends it."""
    found = frozen("2 2 2 _x4 2 _x9 5")
    assert found.told == [
        "breach @2 AAA",
        "stale @5 of @2 AAA",
        "breach @7 of @2 AAA",
        "stale @10 of @2 AAA",
        "resolved/data_returned @17 of @2 AAA",
    ]
    assert [e.point_count for e in found.events] == [3, 3, 4, 3, 4]


def test_a_frozen_rule_may_ask_for_more_points_out_of_line():
    """The second point that ends a row of three is the fourth equal one."""
    assert frozen("2x5", for_points=2).told == ["breach @3 AAA", "breach @4 of @3 AAA"]


def test_a_missing_series_breaches_once_at_the_nth_slot_and_resolves_with_a_point():
    """However long it lasts, there is one breach."""
    found = missing({"AAA": "1 1 _x9 1", "BBB": "1x12"})
    assert found.told == ["breach @4 AAA", "resolved/data_returned @11 of @4 AAA"]
    assert [e.point_count for e in found.events] == [3, 9]
    assert all(math.isnan(e.baseline) for e in found.events)


def test_a_gap_that_is_too_short_is_nothing():
    """Two slots are not three."""
    assert missing({"AAA": "1 _ _ 1 _ _ 1", "BBB": "1x7"}).told == []


def test_a_series_never_seen_is_missing_from_where_evaluation_began():
    """It is expected, so it need not have had a point; slots before evaluation do not count."""
    assert missing({"AAA": "_x8", "BBB": "1x8"}, from_slot=2).told == ["breach @4 AAA"]


def test_an_exchange_without_any_point_has_one_breach_and_none_for_its_series():
    """And it is over with the first point of any of them."""
    found = missing({"KRAKEN:AAA": "1 _x6 1", "KRAKEN:BBB": "1 _x6 1", "SIM:AAA": "1x8", "SIM:BBB": "1x8"})
    assert found.told == ["breach @3 all of KRAKEN", "resolved/data_returned @7 of @3 all of KRAKEN"]
    assert [e.point_count for e in found.events] == [3, 6]
    assert found.events[0].message == "KRAKEN: no series has had a point for 3 minutes"


def test_series_that_stay_missing_open_their_own_episode_when_the_exchange_resolves():
    """At that very slot."""
    found = missing({"AAA": "1 _x6 1 1", "BBB": "1 _x7 1"})
    assert found.told == [
        "breach @3 all of SIM",
        "breach @7 BBB",
        "resolved/data_returned @7 of @3 all of SIM",
        "resolved/data_returned @8 of @7 BBB",
    ]


def test_an_episode_of_a_series_goes_on_beside_that_of_its_exchange():
    """The series went missing first; it resolves with its own point."""
    found = missing({"AAA": "1 _x8 1", "BBB": "1 1 1 1 _x4 1 1"})
    assert found.told == [
        "breach @3 AAA",
        "breach @6 all of SIM",
        "resolved/data_returned @8 of @6 all of SIM",
        "resolved/data_returned @9 of @3 AAA",
    ]


def test_of_an_exchange_with_one_series_the_series_is_missing():
    """Naming it says more than naming the exchange."""
    assert missing("1 _x3").told == ["breach @3 AAA"]


def test_with_one_slot_a_missing_rule_fires_at_once():
    """And as often as a point is missing."""
    assert missing({"AAA": "1 _ 1 _ 1", "BBB": "1x5"}, slots=1).told == [
        "breach @1 AAA",
        "resolved/data_returned @2 of @1 AAA",
        "breach @3 AAA",
        "resolved/data_returned @4 of @3 AAA",
    ]
