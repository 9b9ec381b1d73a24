"""How one series becomes a history: ranges checked, points made into intervals, holes into ranges. Pure arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.model import Floats, Slot, Window, slot_time
from services.query.questions import MOST_INTERVALS, Aggregation, HistoryQuery

Flags = NDArray[np.bool_]


def history_window(query: HistoryQuery, start: Slot, end: Slot) -> Window:
    """Return the range of a query whose ends are known; raises InvalidInputError for one that cannot be."""
    if start > end:
        which = "start_time" if query.end is None else "end_time"
        raise InvalidInputError(
            which,
            f"the range would end at {slot_time(end):%Y-%m-%d %H:%M} UTC, before it starts at "
            f"{slot_time(start):%Y-%m-%d %H:%M} UTC",
            "start_time at or before end_time",
        )
    count = -(-(end - start) // query.interval_slots)
    if count > MOST_INTERVALS:
        raise InvalidInputError(
            "interval",
            f"the range is {count} intervals long, more than {MOST_INTERVALS}",
            f"an interval of at least {-(-(end - start) // MOST_INTERVALS)} minutes, or a shorter range",
        )
    return Window(start, end)


def aggregate(values: Floats, step: int, aggregation: Aggregation) -> Floats:
    """Make one value of every `step` values; NaN where all of them are."""
    if step == 1:
        return values
    count = -(-len(values) // step)
    padded = np.full(count * step, np.nan)
    padded[: len(values)] = values
    buckets = padded.reshape(count, step)
    present = ~np.isnan(buckets)
    match aggregation:
        case Aggregation.LAST:
            last = step - 1 - present[:, ::-1].argmax(axis=1)
            return np.asarray(buckets[np.arange(count), last])
        case Aggregation.MEAN:
            counts = present.sum(axis=1)
            sums = np.where(present, buckets, 0.0).sum(axis=1)
            return np.asarray(np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0))
        case Aggregation.MIN:
            return np.asarray(np.fmin.reduce(buckets, axis=1))
        case Aggregation.MAX:
            return np.asarray(np.fmax.reduce(buckets, axis=1))


def maximal_ranges(flags: Flags, start: int) -> tuple[Window, ...]:
    """Return the maximal ranges of slots whose flags are set; flag i is of slot `start + i`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))) + start
    return tuple(Window(Slot(a), Slot(b)) for a, b in edges.reshape(-1, 2).tolist())


def missing_ranges(present: Flags, inner: Window, window: Window) -> tuple[Window, ...]:
    """Return the ranges without a point: those within `inner`, and all of the window outside it, as maximal ranges."""
    holes = [Window(window.start, inner.start), *maximal_ranges(~present, inner.start), Window(inner.end, window.end)]
    joined: list[Window] = []
    for hole in holes:
        if not len(hole):
            continue
        if joined and joined[-1].end == hole.start:
            joined[-1] = Window(joined[-1].start, hole.end)
        else:
            joined.append(hole)
    return tuple(joined)
