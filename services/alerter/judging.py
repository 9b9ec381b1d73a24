"""What each point is, seen alone: out of line or not. Ratio and threshold rules; which episode it is of comes later.

A verdict depends on the point and the window before it only, so any block that holds both gives the same one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.alerter.means import window_sums
from services.alerter.states import STALE_SLOTS, Block, Counts, Flags, Places, Stretch, ratio_of
from services.core.model import Floats, Slots
from services.core.rules import Ratio, Threshold

_CHUNK_VALUES = 1 << 16
"""How many values are judged at a time: half a megabyte a column, so that all of them stay in a processor's cache."""


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


_FOUND_COLUMNS = tuple(column.name for column in dataclasses.fields(Found))


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """The verdicts on a stretch of slots. Matrices are of shape (slots, series)."""

    breaching: Flags
    levels: Floats
    """What is compared: values, or magnitudes. NaN where there is no point."""
    present: Flags | None
    """Where there is a point; None: everywhere."""
    judged: Flags | None
    """Where there is a point and enough before it to judge it by; None: everywhere."""
    gone: Flags | None
    """Where this slot and the two before it are without a point; None: nowhere."""
    found: Found


class _Matrices:
    """Verdicts in the making: chunks of series are put in as they are judged."""

    def __init__(self, slot_count: int, series_count: int) -> None:
        shape = (slot_count, series_count)
        self.breaching = np.zeros(shape, np.bool_)
        self.levels = np.empty(shape)
        self.present: Flags | None = None
        self.judged: Flags | None = None
        self.gone: Flags | None = None
        self._found: list[Found] = []

    def put(self, chunk: slice, levels: Floats, absent: Flags, unjudged: Flags | None) -> None:
        """Put in the levels of some series; `absent` begins STALE_SLOTS - 1 slots before them."""
        self.levels[:, chunk] = levels.T
        if not absent.any():
            if unjudged is not None and unjudged.any():
                self.judged = self._all_true(self.judged)
                self.judged[:, chunk] = ~unjudged.T
            return
        self.present, self.judged = self._all_true(self.present), self._all_true(self.judged)
        if self.gone is None:
            self.gone = np.zeros(self.breaching.shape, np.bool_)
        early = STALE_SLOTS - 1
        here = absent[:, early:]
        self.present[:, chunk] = ~here.T
        self.judged[:, chunk] = ~(here if unjudged is None else here | unjudged).T
        gone = here
        for back in range(1, STALE_SLOTS):
            gone = gone & absent[:, early - back : -back]
        self.gone[:, chunk] = gone.T

    def _all_true(self, matrix: Flags | None) -> Flags:
        return np.ones(self.breaching.shape, np.bool_) if matrix is None else matrix

    def breach(self, chunk: slice, found: Found) -> None:
        """Put in the points of some series that are out of line; there, series count from the chunk's first."""
        self._found.append(dataclasses.replace(found, series=found.series + chunk.start))

    def finish(self) -> Verdicts:
        """Return the verdicts."""
        columns = [np.concatenate([getattr(part, name) for part in self._found]) for name in _FOUND_COLUMNS]
        slots, series = columns[:2]
        self.breaching[slots, series] = True
        order = np.argsort(slots * self.breaching.shape[1] + series, kind="stable")
        found = Found(*(column[order] for column in columns))
        return Verdicts(self.breaching, self.levels, self.present, self.judged, self.gone, found)


def judge_ratio(ratio: Ratio, magnitudes: Flags, stretch: Stretch) -> Verdicts:
    """Judge a stretch; `magnitudes` are of its series. The block holds the window before it too."""
    matrices, window = _Matrices(len(stretch), len(stretch.series)), ratio.window
    for chunk in _chunks(len(stretch.series), window + len(stretch)):
        values = stretch.values(window, chunk)
        levels = compared = _levels(values, magnitudes[chunk])
        absent = np.isnan(values)
        counts, unjudged = None, None
        if absent.any():
            compared = np.where(absent, 0.0, levels)
            counts = window_sums((~absent[:, :-1]).astype(np.int16), window)
            unjudged = counts < ratio.min_points
        means = window_sums(compared[:, :-1], window) / (window if counts is None else counts)
        limits = limits_of(ratio, means)
        here = levels[:, window:]
        matrices.put(chunk, here, absent[:, window - STALE_SLOTS + 1 :], unjudged)
        series, slots = np.nonzero(here > limits)
        valid = means[series, slots] > 0
        if unjudged is not None:
            valid &= ~unjudged[series, slots]
        series, slots = series[valid], slots[valid]
        baseline = means[series, slots]
        points = np.full(len(slots), window) if counts is None else counts[series, slots].astype(np.int64)
        matrices.breach(
            chunk,
            Found(
                slots,
                series,
                value=values[series, slots + window],
                baseline=baseline,
                ratio=ratio_of(here[series, slots], baseline),
                threshold=limits[series, slots],
                points=points,
            ),
        )
    return matrices.finish()


def limits_of(ratio: Ratio, means: Floats) -> Floats:
    """Return what a value must exceed, given the means before it."""
    limits = means * ratio.factor
    return np.maximum(limits, means + ratio.min_delta) if ratio.min_delta else limits


def judge_threshold(threshold: Threshold, stretch: Stretch) -> Verdicts:
    """Judge a stretch; the block holds STALE_SLOTS - 1 slots before it too."""
    matrices, early = _Matrices(len(stretch), len(stretch.series)), STALE_SLOTS - 1
    above = np.inf if threshold.above is None else threshold.above
    below = -np.inf if threshold.below is None else threshold.below
    for chunk in _chunks(len(stretch.series), early + len(stretch)):
        values = stretch.values(early, chunk)
        here = values[:, early:]
        matrices.put(chunk, here, np.isnan(values), None)
        series, slots = np.nonzero((here > above) | (here < below))
        found = here[series, slots]
        limits = np.where(found > above, above, below)
        none = np.zeros(len(slots), np.int64)
        matrices.breach(chunk, Found(slots, series, found, limits, ratio_of(found, limits), limits, none))
    return matrices.finish()


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


def _levels(values: Floats, magnitudes: Flags) -> Floats:
    if magnitudes.all():
        return np.abs(values)
    return np.where(magnitudes[:, None], np.abs(values), values) if magnitudes.any() else values


def _chunks(series_count: int, slot_count: int) -> Iterator[slice]:
    size = max(1, _CHUNK_VALUES // slot_count)
    for first in range(0, series_count, size):
        yield slice(first, min(first + size, series_count))
