"""What each point is, seen alone: out of line or not. Ratio and threshold rules; which episode it is of comes later.

A verdict depends on the point and the window before it only, so any block that holds both gives the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.alerter.evaluation.means import window_sums
from services.alerter.evaluation.states import STALE_SLOTS, Block, Counts, Flags, Places, Stretch, ratio_of
from services.core.model import Floats, Slots
from services.core.rules import Ratio, Threshold

_CHUNK_VALUES = 1 << 15
"""How many values are judged at a time: 256 KB a column, which still fit into a processor's cache. With a quarter of
that numpy's price for each call shows, with four times as many little more is gained."""

_TRANSPOSED_SLOTS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Points out of line, in the order of slots and then of series, with their evidence as in Event."""

    slots: Places
    """Counted from the first slot of the stretch."""
    series: Places
    value: Floats
    baseline: Floats
    ratio: Floats
    threshold: Floats
    points: Counts


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """The verdicts on a stretch of slots. Matrices are of shape (slots, series)."""

    levels: Floats
    """What is compared with an opening's baseline: values, or magnitudes. NaN where there is no point to compare: none
    at all, none that could be judged, or one out of line."""
    present: Flags | None
    """Where there is a point; None: everywhere."""
    judged: Flags | None
    """Where there is a point and enough before it to judge it by; None: everywhere."""
    gone: Flags | None
    """Where this slot and the two before it are without a point; None: nowhere."""
    found: Found


def judge_ratio(ratio: Ratio, magnitudes: Flags, stretch: Stretch) -> Verdicts:
    """Judge a stretch; `magnitudes` are of its series. The block holds the window before it too."""
    window, shape = ratio.window, (len(stretch.series), len(stretch))
    gaps = _Gaps(shape)
    places: list[Places] = [np.empty(0, np.intp)]
    all_means: list[Floats] = [np.empty(0)]
    all_counts: list[Counts] = [np.empty(0, np.int64)]
    for chunk in _chunks(shape[0], window + shape[1]):
        values = stretch.values(window, chunk)
        levels = compared = _levels(values, magnitudes[chunk])
        absent = np.isnan(values)
        counts: NDArray[np.int16] | None = None
        if absent.any():
            compared = np.where(absent, 0.0, levels)
            counts = window_sums((~absent[:, :-1]).astype(np.int16), window)
            gaps.put(chunk, absent[:, window - STALE_SLOTS + 1 :], counts < ratio.min_points)
        means = window_sums(compared[:, :-1], window)
        means /= window if counts is None else counts
        above = np.flatnonzero(levels[:, window:] > limits_of(ratio, means))
        places.append(above + chunk.start * shape[1])
        all_means.append(means.ravel()[above])
        all_counts.append(np.full(len(above), window) if counts is None else counts.ravel()[above].astype(np.int64))
    series, slots = np.divmod(np.concatenate(places), shape[1])
    mean, count = np.concatenate(all_means), np.concatenate(all_counts)
    which = np.flatnonzero((mean > 0) & (count >= ratio.min_points))
    which = which[np.argsort((slots * shape[0] + series)[which], kind="stable")]
    series, slots, mean = series[which], slots[which], mean[which]
    value = stretch.block.at(stretch.series[series], slots + stretch.first)
    level = np.where(magnitudes[series], np.abs(value), value)
    found = Found(slots, series, value, mean, ratio_of(level, mean), limits_of(ratio, mean), count[which])
    return gaps.verdicts(stretch, magnitudes, found)


def limits_of(ratio: Ratio, means: Floats) -> Floats:
    """Return what a value must exceed, given the means before it."""
    limits = means * ratio.factor
    return np.maximum(limits, means + ratio.min_delta) if ratio.min_delta else limits


def judge_threshold(threshold: Threshold, stretch: Stretch) -> Verdicts:
    """Judge a stretch; the block holds STALE_SLOTS - 1 slots before it too."""
    above = np.inf if threshold.above is None else threshold.above
    below = -np.inf if threshold.below is None else threshold.below
    shape = (len(stretch.series), len(stretch))
    gaps = _Gaps(shape)
    absent = np.isnan(stretch.values(STALE_SLOTS - 1))
    if absent.any():
        gaps.put(slice(None), absent, np.zeros(shape, np.bool_))
    values = transposed(stretch.values(0))
    slots, series = np.nonzero((values > above) | (values < below))
    value = values[slots, series]
    limit = np.where(value > above, above, below)
    found = Found(slots, series, value, limit, ratio_of(value, limit), limit, np.zeros(len(slots), np.int64))
    return gaps.verdicts(stretch, np.zeros(shape[0], np.bool_), found)


def means_at(ratio: Ratio, magnitudes: Flags, block: Block, series: Places, slots: Slots) -> tuple[Floats, Counts]:
    """Return the means before single slots, one of each series given, and of how many points they are."""
    means, counts = np.empty(len(series)), np.empty(len(series), np.int64)
    for slot in np.unique(slots).tolist():
        which = np.flatnonzero(slots == slot)
        values = block.part(series[which], slot - ratio.window, slot)
        absent = np.isnan(values)
        counts[which] = ratio.window - absent.sum(axis=1)
        compared = np.where(absent, 0.0, _levels(values, magnitudes[which]))
        means[which] = window_sums(compared, ratio.window)[:, 0] / counts[which]
    return means, counts


class _Gaps:
    """Where points are missing, or cannot be judged; matrices only where there are any. Shape (series, slots)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._absent: Flags | None = None
        self._unjudged: Flags | None = None

    def put(self, chunk: slice, absent: Flags, unjudged: Flags) -> None:
        """Put in some series; `absent` begins STALE_SLOTS - 1 slots earlier."""
        if self._absent is None or self._unjudged is None:
            self._absent = np.zeros((self._shape[0], self._shape[1] + STALE_SLOTS - 1), np.bool_)
            self._unjudged = np.zeros(self._shape, np.bool_)
        self._absent[chunk], self._unjudged[chunk] = absent, unjudged

    def verdicts(self, stretch: Stretch, magnitudes: Flags, found: Found) -> Verdicts:
        """Return the verdicts on the stretch."""
        levels = transposed(stretch.values(0))
        if magnitudes.any():
            np.abs(levels, out=levels, where=magnitudes)
        levels[found.slots, found.series] = np.nan
        if self._absent is None or self._unjudged is None:
            return Verdicts(levels, None, None, None, found)
        absent, unjudged = transposed(self._absent), transposed(self._unjudged)
        here = absent[STALE_SLOTS - 1 :]
        gone = here.copy()
        for earlier in range(STALE_SLOTS - 1):
            gone &= absent[earlier : earlier + len(here)]
        levels[unjudged] = np.nan
        return Verdicts(levels, ~here, ~(here | unjudged), gone, found)


_Column = TypeVar("_Column", bound=np.generic)


def transposed(values: NDArray[_Column]) -> NDArray[_Column]:
    """Return a copy of shape (slots, series), each slot's row in one piece; cut so that caches are enough for it."""
    result = np.empty(values.shape[::-1], values.dtype)
    for first in range(0, len(result), _TRANSPOSED_SLOTS):
        part = slice(first, first + _TRANSPOSED_SLOTS)
        result[part] = values[:, part].T
    return result


def _levels(values: Floats, magnitudes: Flags) -> Floats:
    if magnitudes.all():
        return np.abs(values)
    return np.where(magnitudes[:, None], np.abs(values), values) if magnitudes.any() else values


def _chunks(series_count: int, slot_count: int) -> Iterator[slice]:
    size = max(1, _CHUNK_VALUES // slot_count)
    for first in range(0, series_count, size):
        yield slice(first, min(first + size, series_count))
