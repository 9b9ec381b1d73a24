"""Medians, spreads, ratios and verdicts are what their names say."""

from __future__ import annotations

import pytest

from benchmarks.statistics import Bound, Goal, Spread, best, percentile, ratios


def test_a_spread_is_median_least_and_greatest():
    """The order of the rounds does not matter."""
    assert Spread(2, 1, 9) == Spread.of([9, 1, 2])


def test_a_spread_of_nothing_is_refused():
    """A figure that was never taken has no median."""
    with pytest.raises(ValueError, match="no rounds"):
        Spread.of([])


def test_ratios_are_taken_round_by_round():
    """A round in which everything was ten times slower leaves the ratio as it was."""
    assert Spread(2, 2, 2) == ratios([2, 20, 4], [1, 10, 2])


def test_ratios_of_columns_of_different_lengths_are_refused():
    """A round that one side lacks cannot be compared."""
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_the_best_peer_is_chosen_in_each_round():
    """The floor is whoever was faster in that round; for throughput whoever was greater."""
    assert [1, 2] == best([1, 5], [3, 2])
    assert [3, 5] == best([1, 5], [3, 2], greatest=True)


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.2, 1), (0.5, 3), (0.6, 3), (0.61, 4), (0.99, 5), (1, 5)])
def test_a_percentile_is_the_nearest_rank(share, expected):
    """It is always one of the values, the first at or above the share."""
    assert expected == percentile([5, 3, 1, 4, 2], share)


@pytest.mark.parametrize(
    ("bound", "limit", "median", "verdict"),
    [
        (Bound.AT_MOST, 1.3, 1.3, "met"),
        (Bound.AT_MOST, 2, 3, "missed by 50 %"),
        (Bound.AT_LEAST, 100, 140, "met"),
        (Bound.AT_LEAST, 100, 75, "missed by 25 %"),
    ],
)
def test_a_verdict_is_of_the_median(bound, limit, median, verdict):
    """A goal is met at its limit; a miss is told in percent of it."""
    assert verdict == Goal("g", bound, limit, Spread(median, 0, 1000)).verdict
