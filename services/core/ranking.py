"""How restless a metric was: sample statistics of many rows at once, and competition ranks.

Pure arithmetic on dense rows; it knows neither where rows come from nor who asks. Rows are taken in blocks that fit a
processor's cache, because the passes over a day of ten thousand metrics cost memory bandwidth, not arithmetic.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.model import Floats

Counts = NDArray[np.int64]

_BLOCK_VALUES = 96 * 1440
"""How many values one block has at most: about 1 MB, so that its passes stay within the second-level cache."""


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


def disperse(rows: Floats, statistic: Statistic = Statistic.STDDEV) -> Dispersion:
    """Return the statistic of each row of `rows`, shape (rows, slots), NaN where there is no point.

    The standard deviation is that of the row's points about their mean, over n - 1. The coefficient of variation is it
    over the magnitude of the mean. The log-return deviation is that of ln(point / point before it) over the points
    above zero, however far apart, so that it needs three of them. What overflows a float64 is not defined.
    """
    count, width = rows.shape
    values = np.full(count, np.nan)
    counts = np.zeros(count, np.int64)
    step = max(1, _BLOCK_VALUES // max(1, width))
    of_block = _log_returns if statistic is Statistic.LOG_RETURN_STDDEV else _deviations
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for start in range(0, count, step):
            part = slice(start, start + step)
            values[part], counts[part] = of_block(rows[part], statistic)
    values[~np.isfinite(values)] = np.nan
    return Dispersion(values, counts)


def _deviations(rows: Floats, statistic: Statistic) -> tuple[Floats, Counts]:
    present = ~np.isnan(rows)
    counts = present.sum(axis=1)
    whole = bool(present.all())
    # Shifted by the row's first point, a constant row deviates by exactly zero and a small deviation of large values
    # loses nothing.
    first = rows[np.arange(len(rows)), present.argmax(axis=1)] if rows.shape[1] else np.zeros(len(rows))
    first = np.nan_to_num(first)
    shifted = rows - first[:, None]
    if not whole:
        shifted[~present] = 0.0
    means = shifted.sum(axis=1) / counts
    shifted -= means[:, None]
    if not whole:
        shifted[~present] = 0.0
    squares = np.einsum("ij,ij->i", shifted, shifted)
    # The second term takes back what rounding left in the mean.
    variances = (squares - shifted.sum(axis=1) ** 2 / counts) / (counts - 1)
    values = np.sqrt(np.maximum(variances, 0.0))
    values[counts < 2] = np.nan  # noqa: PLR2004 - a deviation needs two points
    if statistic is Statistic.COEFFICIENT_OF_VARIATION:
        values = values / np.abs(first + means)
    return values, counts


def _log_returns(rows: Floats, _statistic: Statistic) -> tuple[Floats, Counts]:
    positive = rows > 0
    counts = positive.sum(axis=1)
    owners = np.repeat(np.arange(len(rows)), counts)
    logarithms = np.log(rows[positive])
    within = owners[1:] == owners[:-1]
    owners = owners[1:][within]
    returns = np.diff(logarithms)[within]
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
