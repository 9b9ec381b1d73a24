"""What ratio rules mean: each test is a sentence of DESIGN's alerter."""

from __future__ import annotations

import math

import pytest

from services.core.rules import Ratio, RatioMode, Rule
from tests.support.evaluating import Evaluated

HOUR = Rule("spike", Ratio())


def ratio(texts, *, for_points=1, **fields):
    """Evaluate a ratio rule; windows are short here unless a test says otherwise."""
    return Evaluated(Rule("spike", Ratio(**{"window": 4, "min_points": 2, **fields}), for_points=for_points), texts)


def test_a_point_above_three_times_the_hour_breaches():
    """The user's example: an average of 100, and a new point above 300."""
    found = Evaluated(HOUR, "100x60 301")
    assert found.told == ["breach @60 AAA"]
    event = found.events[0]
    assert (event.value, event.baseline, event.ratio, event.threshold, event.point_count) == (301, 100, 3.01, 300, 60)
    assert (event.rule, event.rule_version, event.opening) == ("spike", HOUR.version, True)


def test_the_comparison_is_strict():
    """A point of exactly three times the average is in line."""
    assert Evaluated(HOUR, "100x60 300").told == []


def test_values_are_compared_with_a_product_and_not_by_a_quotient():
    """Where v / mean > k and v > k * mean differ in the last place, the product holds."""
    means = (0.1 * step for step in range(1, 64))
    mean, value = next((m, v) for m in means if (v := math.nextafter(3 * m, 9)) / m == 3)
    assert ratio(f"{mean!r}x4 {value!r}").told == ["breach @4 AAA"]
    assert ratio(f"{mean!r}x4 {3 * mean!r}").told == []


def test_the_window_excludes_the_new_point():
    """With the new point in it, no fourth point could be above four times the mean of four."""
    assert ratio("1 1 1 1000", factor=4, window=3).told == ["breach @3 AAA"]


def test_the_window_holds_the_point_exactly_its_length_before_and_none_before_that():
    """The window is [t - 3, t)."""
    assert ratio("100 1 1 1 4", window=3).told == ["breach @4 AAA"]
    assert ratio("100 1 1 4", window=3).told == []


def test_too_few_points_in_the_window_never_fire():
    """Nine points are too few where ten are asked for, ten are enough."""
    assert Evaluated(HOUR, "100x9 1000").told == []
    assert Evaluated(HOUR, "100x10 1000").told == ["breach @10 AAA"]


def test_missing_slots_are_not_zeros():
    """The mean is over the points there are: 100, not 50."""
    found = ratio("100 _ 100 _ 250")
    assert found.told == []
    found = ratio("100 _ 100 _ 301")
    assert [(e.baseline, e.point_count) for e in found.events] == [(100, 2)]


def test_signed_measures_are_compared_by_magnitude():
    """A fall breaches as a rise does, and a mean near zero of large moves does not make every point a breach."""
    falls = ratio({"AAA/change_percentage": "1 -1 1 -1 -4"})
    assert falls.told == ["breach @4 AAA/change_percentage"]
    event = falls.events[0]
    assert (event.value, event.baseline, event.ratio, event.threshold) == (-4, 1, 4, 3)
    assert ratio({"AAA/change_percentage": "1 -1 1 -1 2 -3"}).told == []


def test_measures_that_cannot_be_negative_are_compared_literally():
    """Of a price, a negative value is no breach, however large."""
    assert ratio({"AAA/price": "1x4 -4"}).told == []


def test_literal_mode_is_not_applicable_while_the_mean_is_not_above_zero():
    """Otherwise almost any point would be above three times a negative mean."""
    literal = {"mode": RatioMode.LITERAL}
    assert ratio({"AAA/change_absolute": "-1x4 -2 1 100"}, **literal).told == []
    assert ratio({"AAA/change_absolute": "1 -1 1 -1 100"}, **literal).told == []
    assert ratio({"AAA/change_absolute": "1x4 4"}, **literal).told == ["breach @4 AAA/change_absolute"]


def test_a_mean_of_zero_is_not_applicable():
    """There is nothing to compare with after an hour without trades."""
    assert ratio("0x4 5").told == []
    assert ratio({"AAA/change_absolute": "0x4 5"}).told == []


def test_a_least_difference_keeps_small_numbers_quiet():
    """The value must exceed the mean by more than min_delta besides; the greater limit is the threshold told."""
    assert ratio("0.1x4 0.5", min_delta=1.0).told == []
    assert ratio("0.25x4 1.25", min_delta=1.0).told == []
    found = ratio("0.25x4 1.5", min_delta=1.0)
    assert [(e.threshold, e.baseline) for e in found.events] == [(1.25, 0.25)]
    assert [e.threshold for e in ratio("10x4 31", min_delta=1.0).events] == [30]


def test_a_rule_may_ask_for_points_in_a_row():
    """The episode opens with the second of two points out of line; the first is no event."""
    assert ratio("1x20 9 1 9 99", for_points=2, window=20).told == ["breach @23 AAA"]
    assert ratio("1x20 9 1 9 1", for_points=2, window=20).told == []


def test_a_missing_slot_neither_counts_nor_breaks_a_row():
    """Two points out of line with a hole between them are in a row."""
    assert ratio("1x4 9 _ 99", for_points=2).told == ["breach @6 AAA"]
    assert ratio("1x4 9 _ _ 99", for_points=2).told == ["breach @7 AAA"]


def test_a_series_that_has_gone_stale_starts_its_rows_anew():
    """After three slots without a point nobody knows what was between."""
    assert ratio("1x8 9 _x3 99 999", for_points=2, window=8).told == ["breach @13 AAA"]


def test_each_further_point_out_of_line_is_a_breach_of_the_same_episode():
    """Judged by its own moving average: 27 is above 3 * 3, 28 is not above 3 * 9.5."""
    found = ratio("1x4 9 27 28")
    assert found.told == ["breach @4 AAA", "breach @5 of @4 AAA"]
    assert [e.baseline for e in found.events] == [1, 3]
    assert {e.episode_id for e in found.events} == {found.events[0].episode_id}
    assert [(e.breach_count, e.last_breach_slot - e.opening.slot, e.stale) for e in found.open] == [(2, 1, False)]


def test_an_episode_resolves_after_enough_points_back_in_line():
    """Five points in a row, at or below twice the baseline frozen at the opening."""
    found = ratio("100x10 301 200x5", window=10, min_points=10)
    assert found.told == ["breach @10 AAA", "resolved/calm @15 of @10 AAA"]
    event = found.events[1]
    assert (event.value, event.baseline, event.ratio, event.threshold, event.point_count) == (200, 100, 2, 200, 10)
    assert found.open == ()


def test_a_point_above_twice_the_frozen_baseline_starts_the_row_anew():
    """It need not breach for that."""
    assert ratio("100x10 301 200x4 201 200x4", window=10).told == ["breach @10 AAA"]
    assert ratio("100x10 301 200x4 201 200x5", window=10).told[-1] == "resolved/calm @20 of @10 AAA"


def test_the_baseline_is_frozen_at_the_opening():
    """A new level that enters its own average does not look calm for that: 250 is above twice 100 ever after."""
    found = ratio("100x20 350 250x18", window=20)
    assert found.told == ["breach @20 AAA"]
    assert found.open[0].opening.baseline == 100


def test_an_episode_is_over_when_the_new_level_has_become_the_average():
    """After as many slots as the window has; what it is measured by then is the new average."""
    found = ratio("100x20 350 250x20", window=20)
    assert found.told == ["breach @20 AAA", "resolved/rebased @40 of @20 AAA"]
    event = found.events[1]
    assert (event.value, event.baseline, event.ratio, event.point_count) == (250, 255, 250 / 255, 20)


def test_a_new_episode_may_open_right_after_the_last():
    """Its baseline is the average of then."""
    found = ratio("1x4 9 1x5 9")
    assert found.told == ["breach @4 AAA", "resolved/rebased @8 of @4 AAA", "breach @10 AAA"]
    assert found.events[0].episode_id != found.events[2].episode_id


def test_an_episode_goes_stale_once_and_is_never_resolved_by_absence():
    """Three slots without a point make it stale, three hundred do nothing more."""
    found = ratio("1x4 9 _x300")
    assert found.told == ["breach @4 AAA", "stale @7 of @4 AAA"]
    assert (found.events[1].point_count, math.isnan(found.events[1].value)) == (3, True)
    assert [e.stale for e in found.open] == [True]


def test_data_that_return_go_on_with_the_episode():
    """The same id, and it may go stale again."""
    found = ratio("1x20 9 _x3 99 _x3", window=20)
    assert found.told == ["breach @20 AAA", "stale @23 of @20 AAA", "breach @24 of @20 AAA", "stale @27 of @20 AAA"]
    assert len({e.episode_id for e in found.events}) == 1


def test_two_missing_slots_are_not_stale():
    """And a point between two gaps begins to count anew."""
    assert ratio("1x20 9 _ _ 3 _ _ 3", window=20).told == ["breach @20 AAA"]


def test_missing_slots_do_not_break_the_row_of_calm_points_but_going_stale_does():
    """Calm points count on after a short gap; after a long one all of them are asked for again."""
    assert ratio("1x20 9 1x3 _ _ 1x2", window=20).told[-1] == "resolved/calm @27 of @20 AAA"
    assert ratio("1x20 9 1x3 _x3 1x4", window=20).told[-1] == "stale @26 of @20 AAA"
    assert ratio("1x20 9 1x3 _x3 1x5", window=20).told[-1] == "resolved/calm @31 of @20 AAA"


def test_too_few_points_never_resolve_an_episode():
    """Points that cannot be judged do not count as calm, and no level is the average that is made of too few."""
    found = ratio("1x20 9 _x4 1x6", window=20, min_points=18, resolve_after=2)
    assert found.told == ["breach @20 AAA", "stale @23 of @20 AAA"]
    found = ratio("1x4 9 _x4 1x6", window=4, min_points=2, resolve_after=9)
    assert found.told[-1] == "resolved/rebased @11 of @4 AAA", "@9 and @10 have less than two points before them"


def test_a_breaching_point_is_never_calm():
    """Even below twice a baseline from better times: here the average has fallen to a tenth."""
    found = ratio("100x10 301 100x2 1x3 _x1 180", window=3, resolve_after=99)
    assert found.told[0] == "breach @10 AAA"
    calm = ratio("100x10 301 1x9 180", window=10, resolve_after=10, min_points=2)
    assert calm.told == ["breach @10 AAA", "breach @20 of @10 AAA", "resolved/rebased @20 of @10 AAA"]


def test_series_are_evaluated_each_for_itself():
    """What one series does changes nothing for another; events come by slot and then by subject."""
    found = ratio({"BBB": "1x4 9", "AAA": "1x4 9 1", "CCC": "1x6"})
    assert found.told == ["breach @4 AAA", "breach @4 BBB"]


@pytest.mark.parametrize("count", [2, 3, 10, 59, 60, 61, 1440])
def test_windows_of_any_length_hold_as_many_points(count):
    """The mean is of exactly so many points, whatever powers of two the length is made of."""
    found = Evaluated(Rule("spike", Ratio(window=count, min_points=1)), f"1000000 0+1x{count} 1000000")
    event = found.events[-1]
    assert (event.baseline, event.point_count) == ((count - 1) / 2, count)
