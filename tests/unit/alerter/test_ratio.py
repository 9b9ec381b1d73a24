"""What ratio rules mean: each test is a rule's sentence of DESIGN's alerter."""

from __future__ import annotations

import math

from services.core.rules import Ratio, Rule
from tests.support.evaluating import Evaluated

HOUR = Rule("spike", Ratio())


def spike(texts, **fields):
    """Evaluate a ratio rule with some fields of its condition."""
    return Evaluated(Rule("spike", Ratio(**fields)), texts)


def test_a_point_above_three_times_the_hour_breaches():
    """The user's example: an average of 100, and a new point above 300."""
    found = Evaluated(HOUR, "100x60 301")
    assert found.told == ["breach @60 AAA"]
    event = found.events[0]
    assert (event.value, event.baseline, event.ratio, event.threshold, event.point_count) == (301, 100, 3.01, 300, 60)
    assert event.opening
    assert event.message == ("SIM:AAA volume_1m is 3.01 times its average of the last 1h: 301 against 100 (60 points)")


def test_the_comparison_is_strict():
    """A point of exactly three times the average is in line."""
    assert Evaluated(HOUR, "100x60 300").told == []


def test_values_are_compared_with_a_product_not_by_a_quotient():
    """Products: v > k * mean and v / mean > k differ in the last place; the product holds."""
    mean = 0.1 * 3
    value = 3 * mean
    found = Evaluated(Rule("spike", Ratio(window=2, min_points=1)), f"{mean!r} {mean!r} {value!r}")
    assert found.told == []
    above = math.nextafter(value, 2)
    found = Evaluated(Rule("spike", Ratio(window=2, min_points=1)), f"{mean!r} {mean!r} {above!r}")
    assert found.told == ["breach @2 AAA"]


def test_the_window_excludes_the_new_point():
    """With the new point in it, four points could not be above four times their mean."""
    assert spike("1 1 1 1000", factor=4, window=3, min_points=3).told == ["breach @3 AAA"]


def test_the_window_begins_with_the_point_exactly_its_length_before():
    """[t - 3, t): the first of four points before is not in it."""
    assert spike("100 1 1 1 4", window=3, min_points=3).told == ["breach @4 AAA"]
    assert spike("100 1 1 4", window=3, min_points=3).told == []
