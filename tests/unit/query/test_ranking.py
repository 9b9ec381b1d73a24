"""Statistics and ranks against the standard library's exact arithmetic."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.ranking import Statistic, disperse, order

HOLE = float("nan")
VALUES = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 6))
ROWS = st.integers(1, 30).flatmap(
    lambda width: st.lists(
        st.lists(st.one_of(VALUES, st.just(HOLE)), min_size=width, max_size=width), min_size=1, max_size=8
    )
)


def present(row: list[float]) -> list[float]:
    """Return a row's points."""
    return [value for value in row if not math.isnan(value)]


def one(row: list[float], statistic: Statistic) -> tuple[float, int]:
    """Return the statistic and the count of a single row."""
    result = disperse([np.array([row])], statistic)
    return float(result.values[0]), int(result.counts[0])


@given(ROWS)
def test_deviation_is_the_sample_form(rows: list[list[float]]) -> None:
    """STDDEV is the standard library's stdev of the points to 1e-9; fewer than two points have none."""
    result = disperse([np.array(rows)])

    for row, value, count in zip(rows, result.values, result.counts, strict=True):
        points = present(row)
        assert count == len(points)
        if len(points) < 2:
            assert math.isnan(value)
        else:
            scale = max(abs(point) for point in points)
            assert value == pytest.approx(statistics.stdev(points), rel=1e-9, abs=1e-12 * scale)


@given(st.floats(1e-3, 1e12), st.integers(2, 50))
def test_a_constant_row_deviates_by_exactly_zero(value: float, width: int) -> None:
    """Equal points have deviation 0, not a rounding error, so that constant metrics tie."""
    assert one([value] * width, Statistic.STDDEV)[0] == 0.0


def test_small_moves_of_large_values_are_exact() -> None:
    """A deviation a millionth of a millionth of the values loses no more than the values' own precision."""
    moves = [0.0, 1.0, -1.0, 2.0, -2.0]

    assert one([1e12 + move for move in moves], Statistic.STDDEV)[0] == pytest.approx(
        statistics.stdev(moves), rel=1e-12
    )


def test_a_first_point_far_from_the_rest_costs_no_digits() -> None:
    """Rows whose first point is nothing like the others, with holes and without, are summed about their mean."""
    moves = [0.0, 1.0, -1.0, 2.0, -2.0] * 800
    rows = [[1e6, *moves], [HOLE, 1e6, *moves[:3], HOLE, *moves[3:]], [0.0, 1.0, *moves]]
    result = disperse([np.array([row + [HOLE] * (4003 - len(row)) for row in rows])])

    for row, value in zip(rows, result.values, strict=True):
        assert value == pytest.approx(statistics.stdev(present(row)), rel=1e-12)


@given(ROWS)
def test_coefficient_of_variation_is_relative_to_the_mean(rows: list[list[float]]) -> None:
    """It is the deviation over the mean's magnitude, and not defined for a mean of zero."""
    for row in rows:
        points = present(row)
        value, _ = one(row, Statistic.COEFFICIENT_OF_VARIATION)
        if len(points) < 2:
            assert math.isnan(value)
            continue
        mean, scale = math.fsum(points) / len(points), max(abs(point) for point in points)
        if abs(mean) > 1e-3 * scale > 0:
            assert value == pytest.approx(statistics.stdev(points) / abs(mean), rel=1e-9, abs=1e-9)

    assert math.isnan(one([0.0, 0.0], Statistic.COEFFICIENT_OF_VARIATION)[0])
    assert math.isnan(one([-1.0, 1.0], Statistic.COEFFICIENT_OF_VARIATION)[0])


@given(st.lists(st.one_of(st.floats(1e-6, 1e6), st.just(HOLE), st.just(-1.0), st.just(0.0)), min_size=1, max_size=30))
def test_log_returns_are_of_neighbouring_points_above_zero(row: list[float]) -> None:
    """Returns go from each point above zero to the one before it, however far; two returns at least are needed."""
    points = [value for value in row if value > 0]
    returns = [math.log(b) - math.log(a) for a, b in itertools.pairwise(points)]
    value, count = one(row, Statistic.LOG_RETURN_STDDEV)

    assert count == len(points)
    if len(returns) < 2:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(statistics.stdev(returns), rel=1e-9, abs=1e-12)


def test_log_returns_never_cross_rows() -> None:
    """Rows with gaps in one block do not borrow points from their neighbours."""
    rows = np.array([[1.0, HOLE, 2.0, 4.0], [100.0, 100.0, HOLE, 100.0]])

    assert disperse([rows], Statistic.LOG_RETURN_STDDEV).values.tolist() == [0.0, 0.0]


def test_blocks_are_rows_one_after_another() -> None:
    """Rows of several blocks come out in their order."""
    result = disperse([np.array([[1.0, 2.0], [HOLE, 3.0]]), np.array([[5.0, 5.0, HOLE]])])

    np.testing.assert_array_equal(result.values, [math.sqrt(0.5), HOLE, 0.0])
    assert result.counts.tolist() == [2, 1, 2]


def test_overflow_is_not_defined() -> None:
    """Values whose squares leave float64 have no statistic rather than an infinite one."""
    assert math.isnan(one([1e308, -1e308, 1e308], Statistic.STDDEV)[0])


def test_nothing_to_rank_is_no_error() -> None:
    """No rows, and rows of no slots, have no statistics."""
    assert len(disperse([]).values) == 0
    assert np.isnan(disperse([np.empty((2, 0))]).values).all()
    assert len(order(np.array([HOLE])).places) == 0


def test_ties_share_a_rank_and_the_next_counts_them() -> None:
    """Competition ranking: 1, 2, 2, 4; within a tie by name, which is by row."""
    result = order(np.array([2.0, 3.0, HOLE, 2.0, 1.0]))

    assert result.places.tolist() == [1, 0, 3, 4]
    assert result.ranks.tolist() == [1, 2, 2, 4]


@given(st.lists(st.one_of(st.integers(0, 5).map(float), st.just(HOLE)), max_size=40))
def test_rank_is_one_more_than_the_better_ones(values: list[float]) -> None:
    """Every rank is one more than the number of strictly greater values, and order is by value, then by row."""
    result = order(np.array(values, float))
    ranked = [value for value in values if not math.isnan(value)]

    expected = sorted(
        (place for place, value in enumerate(values) if not math.isnan(value)), key=lambda p: (-values[p], p)
    )
    assert result.places.tolist() == expected
    for place, rank in zip(result.places.tolist(), result.ranks.tolist(), strict=True):
        assert rank == 1 + sum(value > values[place] for value in ranked)
