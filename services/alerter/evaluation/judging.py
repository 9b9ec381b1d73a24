"""What each point is, seen alone: out of line or not. Ratio and threshold rules; which episode it is of comes later.

A verdict depends on the point and the window before it only, so any block that holds both gives the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.alerter.evaluation.means import last_sums, room_for_sums, sums_before
from services.alerter.evaluation.sequences import AHEAD
from services.alerter.evaluation.states import STALE_SLOTS, Block, Counts, Flags, Places, Stretch, ratio_of
from services.core.model import Floats, Slots
from services.core.rules import Ratio, Threshold

_CHUNK_VALUES = 1 << 15
"""How many values are judged at a time: 256 KB a column, of which some fit into a processor's cache. With a quarter of
that numpy's price for each call shows; with four times as many nothing more is gained."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Points out of line, in the order of series and then of slots, with their evidence as in Event."""

    series: Places
    slots: Places
    """Counted from the first slot of the stretch."""
    value: Floats
    baseline: Floats
    ratio: Floats
    threshold: Floats
    points: Counts


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """The verdicts on a stretch of slots. Matrices are of shape (series, slots)."""

    found: Found
    levels: Floats
    """What is compared with an opening's baseline, values or magnitudes; NaN where there is no point to compare: none
    at all, none that could be judged, or one out of line. One row, the series end to end, and AHEAD more behind."""
    present: Flags | None
    """Where there is a point; None: everywhere."""
    judged: Flags | None
    """Where there is a point and enough before it to judge it by; None: everywhere."""
    gone: Flags | None
    """Where this slot and the two before it are without a point; None: nowhere."""


def judge_ratio(ratio: Ratio, magnitudes: Flags, stretch: Stretch) -> Verdicts:
    """Judge a stretch; `magnitudes` are of its series. The block holds the window before it too."""
    window, shape = ratio.window, (len(stretch.series), len(stretch))
    gaps, (row, matrix) = _Gaps(shape), _levels(shape)
    columns: list[tuple[Places, Floats, Floats, Counts]] = []
    length, step = window + shape[1], _series_at_once(window + shape[1])
    # Of one slot numpy sums along the series, otherwise along the slots: whichever are more.
    order: Literal["C", "F"] = "F" if shape[1] == 1 else "C"
    signed = bool(magnitudes.any())
    room = _Room(min(step, shape[0]) * length, window)
    for first in range(0, shape[0], step):
        chunk = slice(first, min(first + step, shape[0]))
        values = room.values[: (chunk.stop - first) * length].reshape((-1, length), order=order)
        values[:] = stretch.values(window, chunk)
        levels = levels_of(values, magnitudes[chunk, None]) if signed else values
        matrix[chunk] = levels[:, window:]
        counts: NDArray[np.int16] | None = None
        if np.isnan(levels.min()):
            absent = np.isnan(levels)
            levels[absent] = 0.0
            counts, stride = sums_before((~absent).astype(np.int16), window)
            few = _rows(counts < ratio.min_points, stride, shape[1])
            gaps.put(chunk, absent[:, window - STALE_SLOTS + 1 :], few)
            matrix[chunk][few] = np.nan
        means, stride = sums_before(levels, window, room.sums)
        means /= window if counts is None else counts
        limits = limits_of(ratio, means, out=room.limits[: len(means)])
        above = np.flatnonzero(_points(levels, window, stride) > limits)
        count = np.full(len(above), window) if counts is None else counts[above].astype(np.int64)
        columns.append((above + first * stride, _points(values, window, stride)[above], means[above], count))
    stride = 1 if shape[1] == 1 else length
    places, value, mean, count = (np.concatenate(column) for column in zip(_NOTHING, *columns, strict=True))
    series, slots = np.divmod(places, stride)
    # What lies between two series is no point, and without a mean above zero there is nothing to compare with.
    which = np.flatnonzero((slots < shape[1]) & (mean > 0) & (count >= ratio.min_points))
    series, slots, value, mean, count = (column[which] for column in (series, slots, value, mean, count))
    row[series * shape[1] + slots] = np.nan
    level = levels_of(value, magnitudes[series])
    found = Found(series, slots, value, mean, ratio_of(level, mean), limits_of(ratio, mean), count)
    return gaps.verdicts(found, row)


def limits_of(ratio: Ratio, means: Floats, out: Floats | None = None) -> Floats:
    """Return what a value must exceed, given the means before it."""
    limits = np.multiply(means, ratio.factor, out=out)
    return np.maximum(limits, means + ratio.min_delta) if ratio.min_delta else limits


def levels_of(values: Floats, magnitudes: Flags) -> Floats:
    """Return what is compared: values, or their magnitudes where `magnitudes`, of a shape that fits, says so."""
    if magnitudes.all():
        return np.abs(values)
    return np.where(magnitudes, np.abs(values), values) if magnitudes.any() else values


def judge_threshold(threshold: Threshold, stretch: Stretch) -> Verdicts:
    """Judge a stretch; the block holds STALE_SLOTS - 1 slots before it too."""
    above = np.inf if threshold.above is None else threshold.above
    below = -np.inf if threshold.below is None else threshold.below
    shape = (len(stretch.series), len(stretch))
    gaps = _Gaps(shape)
    absent = np.isnan(stretch.values(STALE_SLOTS - 1))
    if absent.any():
        gaps.put(slice(None), absent, np.zeros(shape, np.bool_))
    row, values = _levels(shape)
    values[:] = stretch.values(0)
    series, slots = np.nonzero((values > above) | (values < below))
    value = values[series, slots]
    values[series, slots] = np.nan
    limit = np.where(value > above, above, below)
    found = Found(series, slots, value, limit, ratio_of(value, limit), limit, np.zeros(len(slots), np.int64))
    return gaps.verdicts(found, row)


def means_at(ratio: Ratio, magnitudes: Flags, block: Block, series: Places, slots: Slots) -> tuple[Floats, Counts]:
    """Return the means before single slots, one of each series given, and of how many points they are."""
    means, counts = np.empty(len(series)), np.empty(len(series), np.int64)
    for slot in np.unique(slots).tolist():
        which = np.flatnonzero(slots == slot)
        values = block.part(series[which], slot - ratio.window, slot)
        absent = np.isnan(values)
        counts[which] = ratio.window - absent.sum(axis=1)
        compared = np.where(absent, 0.0, levels_of(values, magnitudes[which, None]))
        means[which] = last_sums(compared, ratio.window) / counts[which]
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

    def verdicts(self, found: Found, levels: Floats) -> Verdicts:
        """Return the verdicts on the stretch."""
        if self._absent is None or self._unjudged is None:
            return Verdicts(found, levels, None, None, None)
        here = self._absent[:, STALE_SLOTS - 1 :]
        gone = here.copy()
        for earlier in range(STALE_SLOTS - 1):
            gone &= self._absent[:, earlier : earlier + self._shape[1]]
        return Verdicts(found, levels, ~here, ~(here | self._unjudged), gone)


class _Room:
    """Memory that serves for one chunk of series after another, and so stays in the processor's cache."""

    def __init__(self, count: int, window: int) -> None:
        self.values: Floats = np.empty(count)
        self.limits: Floats = np.empty(count)
        self.sums = room_for_sums(count, window)


_NOTHING = (np.empty(0, np.intp), np.empty(0), np.empty(0), np.empty(0, np.int64))


def _levels(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return room for levels as `Verdicts` has them, and the same memory by series and slots."""
    count = shape[0] * shape[1]
    row = np.empty(count + AHEAD)
    row[count:] = np.nan
    return row, row[:count].reshape(shape)


def _rows(row: Flags, stride: int, slot_count: int) -> Flags:
    """Return what `sums_before` has laid end to end as series by slots."""
    if stride == 1:
        return row[:, None]
    whole = np.zeros(len(row) + stride - slot_count, np.bool_)
    whole[: len(row)] = row
    return whole.reshape(-1, stride)[:, :slot_count]


def _points(values: Floats, window: int, stride: int) -> Floats:
    """Return the values that stand where `sums_before` has the sums before them."""
    return values[:, window] if stride == 1 else values.reshape(-1)[window:]


def _series_at_once(slot_count: int) -> int:
    return max(1, _CHUNK_VALUES // slot_count)
