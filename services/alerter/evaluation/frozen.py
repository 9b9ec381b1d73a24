"""Episodes of frozen rules: points that come but do not change.

An episode opens with the point that makes a row of equal points long enough; every equal point after it breaches too,
whatever gap lies between, and the first that differs resolves it. A series that has gone stale starts its row anew.
"""

from __future__ import annotations

import numpy as np

from services.alerter.evaluation.states import (
    BREACH,
    RESOLVED,
    STALE,
    STALE_SLOTS,
    Counts,
    EventColumns,
    Flags,
    Places,
    Rows,
    ratio_of,
)
from services.core.breaches import ResolvedReason
from services.core.model import Floats


def count_frozen(rows: Rows, values: Floats, wanted: int) -> None:
    """Only bring rows of equal points up to date; `values` begin STALE_SLOTS - 1 slots before the stretch."""
    columns = np.ascontiguousarray(values.T)
    for place in range(STALE_SLOTS - 1, len(columns)):
        _count(rows, columns, place, wanted)


def run_frozen(rows: Rows, values: Floats, first: int, wanted: int) -> list[EventColumns]:
    """Evaluate the slots from `first` on and return the events, in any order; subjects are places in the rows.

    `values` (series, slots) begin STALE_SLOTS - 1 slots before the first.
    """
    columns = np.ascontiguousarray(values.T)
    events: list[EventColumns] = []
    for place in range(STALE_SLOTS - 1, len(columns)):
        slot = first + place - STALE_SLOTS + 1
        value = columns[place]
        present, gone = _count(rows, columns, place, wanted)
        moved = np.flatnonzero(present & rows.open & (value != rows.baseline))
        if len(moved):
            events.append(
                _evidence(
                    rows, RESOLVED, moved, slot=slot, value=value, points=rows.points[moved] + rows.breaches[moved] - 1
                )
            )
            rows.close(moved)
        opening = np.flatnonzero(present & ~rows.open & (rows.run >= wanted))
        rows.opened[opening] = slot
        rows.value[opening] = rows.baseline[opening] = value[opening]
        rows.ratio[opening] = ratio_of(value[opening], value[opening])
        rows.points[opening] = wanted
        breaching = np.flatnonzero(present & rows.open)
        if len(breaching):
            events.append(
                _evidence(
                    rows,
                    BREACH,
                    breaching,
                    slot=slot,
                    value=value,
                    points=rows.points[breaching] + rows.breaches[breaching],
                )
            )
            rows.breaches[breaching] += 1
            rows.last_breach[breaching] = slot
        rows.stale &= ~present
        stale = np.flatnonzero(gone & rows.open & ~rows.stale)
        if len(stale):
            rows.stale[stale] = True
            events.append(EventColumns.of(STALE, stale, slot, rows.opened[stale], points=STALE_SLOTS))
    return events


def _count(rows: Rows, columns: Floats, place: int, wanted: int) -> tuple[Flags, Flags]:
    """Count one slot's points into their rows; return where there is one, and where there has been none for long."""
    value = columns[place]
    present: Flags = ~np.isnan(value)
    gone: Flags = np.logical_and.reduce(np.isnan(columns[place - STALE_SLOTS + 1 : place + 1]), axis=0)
    run = np.where(value == rows.last, np.minimum(rows.run + 1, wanted), 1)
    rows.run = np.where(present, run, rows.run) * ~gone
    rows.last = np.where(present, value, rows.last)
    rows.last[gone] = np.nan
    return present, gone


def _evidence(rows: Rows, kind: int, which: Places, *, slot: int, value: Floats, points: Counts) -> EventColumns:
    return EventColumns.of(
        kind,
        which,
        slot,
        rows.opened[which],
        value=value[which],
        baseline=rows.baseline[which],
        points=points,
        reason=ResolvedReason.DATA_RETURNED if kind == RESOLVED else None,
    )
