"""How restless a metric was: sample statistics of many rows at once, and competition ranks.

Pure arithmetic on dense rows; it knows neither where rows come from nor who asks. Rows come in blocks that should fit a
processor's cache, and are worked on where they lie: the passes over a day of ten thousand metrics cost memory bandwidth
and page faults, not arithmetic.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.model import Floats

Counts = NDArray[np.int64]

_LEAST_SHARE = 1e-3
"""Squares about the first point less those of its distance from the mean are the squares about the mean. Where these
are a smaller share, the subtraction would leave fewer than ten digits of them, and they are summed by themselves."""


class Statistic(enum.StrEnum):
    """By what metrics are ranked; all are sample forms (n - 1), as Flux and SQL `stddev` are."""

    STDDEV = "stddev"
    COEFFICIENT_OF_VARIATION = "coefficient_of_variation"
    LOG_RETURN_STDDEV = "log_return_stddev"


@dataclass(frozen=True, slots=True, eq=False)
class Dispersion:
    """A statistic of each row."""

    values: Floats
    """NaN where the row has no defined statistic."""
    counts: Counts
    """How many points of the row the statistic is of; also where it is not defined."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Who is where in a ranking."""

    places: NDArray[np.int64]
    """The ranked rows, best first: by descending value, within a tie by name."""
    ranks: NDArray[np.int64]
    """The rank of each of them, from 1: equal values share one, and the next counts them all (1, 2, 2, 4)."""


def disperse(blocks: Iterable[Floats], statistic: Statistic = Statistic.STDDEV) -> Dispersion:
    """Return the statistic of each row of all blocks, each of shape (rows, slots), NaN where there is no point.

    The standard deviation is that of the row's points about their mean, over n - 1. The coefficient of variation is it
    over the magnitude of the mean. The log-return deviation is that of ln(point / point before it) over the points
    above zero, however far apart, so that it needs three of them. What overflows a float64 is not defined. The blocks
    are the caller's own, and hold nothing of use afterwards.
    """
    values, counts = [np.empty(0)], [np.empty(0, np.int64)]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for rows in blocks:
            if statistic is Statistic.LOG_RETURN_STDDEV:
                deviations, count = _log_returns(rows)
            else:
                deviations, means, count = _deviations(rows)
                if statistic is Statistic.COEFFICIENT_OF_VARIATION:
                    deviations = deviations / np.abs(means)
            deviations[~np.isfinite(deviations)] = np.nan
            values.append(deviations)
            counts.append(count)
    return Dispersion(np.concatenate(values), np.concatenate(counts))


def _deviations(rows: Floats) -> tuple[Floats, Floats, Counts]:
    """Return deviation, mean and count of each row; the rows become their distances from their first points."""
    if not rows.size:
        nothing = np.full(len(rows), np.nan)
        return nothing, nothing, np.zeros(len(rows), np.int64)
    counts = np.full(len(rows), rows.shape[1])
    first = rows[:, 0].copy()
    late = np.flatnonzero(np.isnan(first))
    if len(late):
        first[late] = rows[late, (~np.isnan(rows[late])).argmax(axis=1)]
    # Shifted by its first point, a constant row deviates by exactly zero, and a small deviation of large values loses
    # nothing.
    np.subtract(rows, first[:, None], out=rows)
    sums = rows.sum(axis=1)
    holed = np.flatnonzero(np.isnan(sums))
    holes = np.isnan(rows[holed])
    if len(holed):
        counts[holed] -= holes.sum(axis=1)
        rows[holed] = np.where(holes, 0.0, rows[holed])
        sums[holed] = rows[holed].sum(axis=1)
    shifts = sums / counts
    of_shift = sums * shifts
    squares = np.vecdot(rows, rows) - of_shift
    lost = np.flatnonzero(~(squares >= _LEAST_SHARE * of_shift))
    if len(lost):
        away = rows[lost] - shifts[lost, None]
        _, of_lost, of_holed = np.intersect1d(lost, holed, assume_unique=True, return_indices=True)
        away[of_lost] = np.where(holes[of_holed], 0.0, away[of_lost])
        squares[lost] = np.vecdot(away, away)
    deviations = np.sqrt(squares / (counts - 1))
    deviations[counts < 2] = np.nan  # noqa: PLR2004 - a deviation needs two points
    return deviations, first + shifts, counts


def _log_returns(rows: Floats) -> tuple[Floats, Counts]:
    positive = rows > 0
    counts = positive.sum(axis=1)
    if rows.size and positive.all():
        np.log(rows, out=rows)
        return _deviations(rows[:, 1:] - rows[:, :-1])[0], counts
    # Points that are not there bring the others together: row after row without gaps, returns across rows left out.
    owners = np.repeat(np.arange(len(rows)), counts)
    within = owners[1:] == owners[:-1]
    owners = owners[1:][within]
    returns = np.diff(np.log(rows[positive]))[within]
    sizes = np.bincount(owners, minlength=len(rows))
    means = np.bincount(owners, returns, minlength=len(rows)) / sizes
    away = returns - means[owners]
    values = np.sqrt(np.bincount(owners, away * away, minlength=len(rows)) / (sizes - 1))
    values[sizes < 2] = np.nan  # noqa: PLR2004 - a deviation needs two returns
    return values, counts


def order(values: Floats) -> Order:
    """Rank rows, given in ascending order of their names, by descending value; NaN is left out."""
    ranked = np.flatnonzero(~np.isnan(values))
    places = ranked[np.argsort(-values[ranked], kind="stable")]
    sorted_values = values[places]
    first_of_tie = (
        np.concatenate([[True], sorted_values[1:] != sorted_values[:-1]]) if len(places) else np.empty(0, bool)
    )
    own = np.arange(1, len(places) + 1)
    return Order(places, np.maximum.accumulate(np.where(first_of_tie, own, 0)) if len(places) else own)
