"""Episodes of missing rules: points that do not come, of a series or of all that the rule selects of an exchange.

The rows are those of the series, then those of their exchanges. Where at least two series of an exchange are selected
and every one is missing, the exchange has one episode and no new ones open for its series; with the first point of any
of them it is over, and series that are missing still open their own. An episode of a series goes on beside it.

A series takes part from the slot on from which it is expected, or from its first point if that comes before.
"""

from __future__ import annotations

import numpy as np

from services.alerter.evaluation.states import BREACH, RESOLVED, Counts, EventColumns, Flags, Places, Rows
from services.core.breaches import ResolvedReason
from services.core.model import Floats, Slots

_FEWEST = 2
"""Of one series alone the series says more than the exchange."""


def run_missing(rows: Rows, groups: Places, absent: Flags, first: int, wanted: int) -> list[EventColumns]:
    """Evaluate the slots from `first` on and return the events, in any order; subjects are places in the rows.

    `absent` has the shape (series, slots); `groups[s]` counts the exchanges from 0.
    """
    count = len(groups)
    sizes = np.bincount(groups, minlength=len(rows.run) - count)
    columns = np.ascontiguousarray(absent.T)
    expected = _expect(rows, columns, first)
    eventful: Flags = np.logical_or.reduce(columns, axis=1)
    events: list[EventColumns] = []
    for place, missing in enumerate(columns):
        if not eventful[place] and not rows.run.any() and not rows.open.any():
            continue
        slot = first + place
        counted = missing
        if expected is not None:
            counted = missing & expected[place]
            sizes = np.bincount(groups[expected[place] | ~missing], minlength=len(sizes))
        rows.run[:count] = np.minimum(rows.run[:count] + 1, wanted) * counted
        due = rows.run[:count] >= wanted
        all_due = (np.bincount(groups[due], minlength=len(sizes)) == sizes) & (sizes >= _FEWEST)
        returned = np.bincount(groups[~missing], minlength=len(sizes)) > 0
        is_open = rows.open
        resolved = np.flatnonzero(is_open & np.concatenate([~missing, returned]))
        if len(resolved):
            opened = rows.opened[resolved]
            points = rows.points[resolved] + slot - 1 - opened
            events.append(
                EventColumns.of(RESOLVED, resolved, slot, opened, points=points, reason=ResolvedReason.DATA_RETURNED)
            )
            rows.close(resolved)
            is_open = rows.open
        whole = is_open[count:] | all_due
        opening = np.flatnonzero(np.concatenate([due & ~whole[groups], all_due]) & ~is_open)
        if len(opening):
            rows.opened[opening] = rows.last_breach[opening] = slot
            rows.breaches[opening] = 1
            rows.points[opening] = wanted
            events.append(EventColumns.of(BREACH, opening, slot, slot, points=wanted))
    return events


def _expect(rows: Rows, columns: Flags, first: int) -> Flags | None:
    """Expect series from their first point on; return who is expected when, (slots, series), or None: all, always."""
    since = rows.expected_from[: columns.shape[1]]
    if not (since > first).any():
        return None
    slots = np.arange(first, first + len(columns))
    seen = np.where(columns.all(axis=0), since, slots[columns.argmin(axis=0)] + 1)
    np.minimum(since, seen, out=since)
    expected: Flags = slots[:, None] >= since
    return expected


def count_missing(values: Floats, sinces: Slots, first: int, wanted: int) -> Counts:
    """Return how many of the last slots of a stretch are without a point, at most `wanted`, none before `sinces`."""
    absent = np.isnan(values)
    slots = np.arange(first, first + values.shape[1])
    absent &= slots >= sinces[:, None]
    present_from_end = ~absent[:, ::-1]
    run = np.where(present_from_end.any(axis=1), present_from_end.argmax(axis=1), values.shape[1])
    counts: Counts = np.minimum(run, wanted).astype(np.int64)
    return counts
