"""Episodes of ratio and threshold rules: how they open, last, go stale and resolve, slot by slot, all series at once.

A row of points is broken by a point that cannot be judged and by STALE_SLOTS slots without one; fewer missing slots
neither count nor break it. So where a series stands follows from its open episode and a bounded stretch of its points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.alerter.judging import Verdicts
from services.alerter.states import (
    BREACH,
    NOT_OPEN,
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

_NEVER = 2**62

_Piece = tuple[int, Places, Counts, Floats, Floats, Floats, Counts]
"""Of some events of one slot: the slot, series, opening slots, baselines, ratios, thresholds, points."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a rule says about the course of episodes."""

    for_points: int
    resolve_after: int
    calm_factor: float | None
    """Points at or below so many times the opening's baseline are back in line; None: all that do not breach."""
    longest: int | None
    """After so many slots the new level is the average; None: never."""


class Episodes:
    """A stretch of slots being evaluated, from `first` on. It changes the rows that it is given."""

    def __init__(self, rows: Rows, verdicts: Verdicts, first: int, course: Course) -> None:
        self._rows = rows
        self._verdicts = verdicts
        self._first = first
        self._course = course
        self._slot_count = len(verdicts.breaching)
        # Series without an episode are never back in line: nothing is at or below these.
        self._calm_levels = np.where(rows.open, self._calm_level(rows.baseline), -np.inf)
        self._due = np.where(rows.open, rows.opened + (course.longest or _NEVER), _NEVER)
        self._stale: list[_Piece] = []
        self._calm: list[_Piece] = []
        self._rebased: list[_Piece] = []

    def count(self) -> None:
        """Only bring the counts of points in a row up to date, where the stretch has been evaluated before."""
        for place in range(self._slot_count):
            self._count(place)
            self._rows.calm[self._rows.opened >= self._first + place] = 0
        np.minimum(self._rows.calm, self._course.resolve_after, out=self._rows.calm)

    def run(self) -> list[EventColumns]:
        """Evaluate and return the events, in any order; their subjects are places in the rows."""
        rows, found, place = self._rows, self._verdicts.found, 0
        offsets = np.searchsorted(found.slots, np.arange(self._slot_count + 1))
        opened = np.full(len(found.slots), NOT_OPEN, np.int64)
        open_count = int(np.count_nonzero(rows.open))
        pending = bool(rows.run.any())
        while place < self._slot_count:
            if not open_count and not pending:
                # Nothing can happen before the next point out of line.
                if offsets[place] == len(found.slots):
                    break
                place = int(found.slots[offsets[place]])
            slot = self._first + place
            calmly = self._count(place)
            breaching = slice(int(offsets[place]), int(offsets[place + 1]))
            if breaching.start < breaching.stop:
                open_count += self._breach(breaching, slot)
                opened[breaching] = rows.opened[found.series[breaching]]
            if open_count:
                self._go_stale(place, slot)
                open_count -= self._resolve(place, slot, calmly)
            pending = self._course.for_points > 1 and bool(rows.run.any())
            place += 1
        which = np.flatnonzero(opened != NOT_OPEN)
        breaches = EventColumns.of(
            BREACH,
            found.series[which],
            found.slots[which] + self._first,
            opened[which],
            value=found.value[which],
            baseline=found.baseline[which],
            ratio=found.ratio[which],
            threshold=found.threshold[which],
            points=found.points[which],
        )
        stale = _columns(STALE, self._stale)
        calm = _columns(RESOLVED, self._calm, ResolvedReason.CALM)
        rebased = _columns(RESOLVED, self._rebased, ResolvedReason.REBASED)
        return [breaches, stale, calm, rebased]

    def _calm_level(self, baseline: Floats) -> Floats:
        factor = self._course.calm_factor
        return np.full(len(baseline), np.inf) if factor is None else baseline * factor

    def _count(self, place: int) -> Flags:
        """Count one slot's points into their rows; return which of them are back in line."""
        rows, verdicts, wanted = self._rows, self._verdicts, self._course.for_points
        breaching = verdicts.breaching[place]
        calmly: Flags = np.less_equal(verdicts.levels[place], self._calm_levels)
        calmly &= ~breaching
        if verdicts.judged is not None:
            calmly &= verdicts.judged[place]
        calm = (rows.calm + 1) * calmly
        run = np.minimum(rows.run + 1, wanted) * breaching if wanted > 1 else rows.run
        if verdicts.present is not None and verdicts.gone is not None:
            present, gone = verdicts.present[place], verdicts.gone[place]
            calm = np.where(present, calm, rows.calm) * ~gone
            if wanted > 1:
                run = np.where(present, run, rows.run) * ~gone
        rows.calm, rows.run = calm, run
        return calmly

    def _breach(self, which: slice, slot: int) -> int:
        """Open episodes or go on with them; return how many were opened."""
        rows, found = self._rows, self._verdicts.found
        series = found.series[which]
        closed = rows.opened[series] == NOT_OPEN
        if self._course.for_points > 1:
            closed &= rows.run[series] >= self._course.for_points
        opening = series[closed]
        if len(opening):
            rows.opened[opening] = slot
            for name in ("value", "baseline", "ratio", "threshold", "points"):
                getattr(rows, name)[opening] = getattr(found, name)[which][closed]
            self._calm_levels[opening] = self._calm_level(rows.baseline[opening])
            self._due[opening] = slot + (self._course.longest or _NEVER)
        going_on = series[rows.opened[series] != NOT_OPEN]
        rows.breaches[going_on] += 1
        rows.last_breach[going_on] = slot
        return len(opening)

    def _go_stale(self, place: int, slot: int) -> None:
        rows, verdicts = self._rows, self._verdicts
        if verdicts.present is None or verdicts.gone is None:
            rows.stale[:] = False
            return
        rows.stale &= ~verdicts.present[place]
        stale = np.flatnonzero(verdicts.gone[place] & rows.open & ~rows.stale)
        if len(stale):
            rows.stale[stale] = True
            nothing = np.full(len(stale), np.nan)
            points = np.full(len(stale), STALE_SLOTS)
            self._stale.append((slot, stale, rows.opened[stale], nothing, nothing, nothing, points))

    def _resolve(self, place: int, slot: int, calmly: Flags) -> int:
        """Resolve what is calm or has become the average; return how many."""
        rows, verdicts, course = self._rows, self._verdicts, self._course
        calm = calmly & (rows.calm >= course.resolve_after)
        rebased = self._due <= slot
        if verdicts.judged is not None:
            rebased &= verdicts.judged[place]
        over = calm | rebased
        if not over.any():
            return 0
        for pieces, which in ((self._calm, calm), (self._rebased, rebased & ~calm)):
            if len(places := np.flatnonzero(which)):
                baseline, points = rows.baseline[places], rows.points[places]
                ratio = ratio_of(verdicts.levels[place, places], baseline)
                limit = rows.threshold[places] if course.calm_factor is None else self._calm_levels[places]
                pieces.append((slot, places, rows.opened[places], baseline, ratio, limit, points))
        places = np.flatnonzero(over)
        rows.close(places)
        self._calm_levels[places] = -np.inf
        self._due[places] = _NEVER
        return len(places)


def _columns(kind: int, pieces: list[_Piece], reason: ResolvedReason | None = None) -> EventColumns:
    if not pieces:
        return EventColumns.joined([])
    slots, *columns = zip(*pieces, strict=True)
    subjects, opened, baseline, ratio, threshold, points = map(np.concatenate, columns)
    repeated = np.repeat(np.array(slots, np.int64), [len(piece[1]) for piece in pieces])
    return EventColumns.of(
        kind,
        subjects,
        repeated,
        opened,
        baseline=baseline,
        ratio=ratio,
        threshold=threshold,
        points=points,
        reason=reason,
    )
