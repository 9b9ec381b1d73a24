"""Episodes of ratio and threshold rules: how they open, last, go stale and resolve, slot by slot, all series at once.

A row of points is broken by a point that cannot be judged and by STALE_SLOTS slots without one; fewer missing slots
neither count nor break it. So where a series stands follows from its open episode and a bounded stretch of its points.

The loop over slots does only what depends on the slot before, on as few columns as can be, because it decides how fast
history is replayed; evidence is put together afterwards, for all slots at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.alerter.evaluation.judging import Verdicts
from services.alerter.evaluation.states import (
    BREACH,
    RESOLVED,
    STALE,
    STALE_SLOTS,
    Counts,
    EventColumns,
    Places,
    Rows,
    ratio_of,
)
from services.core.breaches import ResolvedReason
from services.core.model import Floats, Slots

_NEVER = 2**62
_CLOSED = -1

_Piece = tuple[int, Places, Places]
"""What happened in one slot: the slot's place in the stretch, the series, the openings of their episodes."""


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
    """A stretch of slots being evaluated, from `first` on. It changes the rows that it is given.

    Openings are numbered: first the points out of line that were found, which may open an episode, then the episodes
    that are open already.
    """

    def __init__(self, rows: Rows, verdicts: Verdicts, first: int, course: Course) -> None:
        self._rows = rows
        self._verdicts = verdicts
        self._first = first
        self._course = course
        self._slot_count, series_count = verdicts.levels.shape
        found = verdicts.found
        self._offsets: list[int] = np.searchsorted(found.slots, np.arange(self._slot_count + 1)).tolist()
        earlier = np.flatnonzero(rows.open)
        self._opened: Slots = np.concatenate([found.slots + first, rows.opened[earlier]])
        self._evidence: dict[str, Floats] = {
            name: np.concatenate([getattr(found, name), getattr(rows, name)[earlier]])
            for name in ("value", "baseline", "ratio", "threshold")
        }
        self._points: Counts = np.concatenate([found.points, rows.points[earlier]])
        baselines, factor = self._evidence["baseline"], course.calm_factor
        self._calm_levels = np.full(len(baselines), np.inf) if factor is None else baselines * factor
        # Of each series: which opening its episode has, up to which level it is back in line (nothing is at or below
        # that of a series without an episode), and when the level has become the average.
        self._opening: Places = np.full(series_count, _CLOSED)
        self._opening[earlier] = np.arange(len(found.slots), len(self._opened))
        self._calm_level = np.full(series_count, -np.inf)
        self._calm_level[earlier] = self._calm_levels[len(found.slots) :]
        self._due: Slots = np.full(series_count, _NEVER)
        if course.longest is not None:
            self._due[earlier] = rows.opened[earlier] + course.longest
        self._next_due = int(self._due.min(initial=_NEVER))
        self._open_count = len(earlier)
        self._breached: Places = np.full(len(found.slots), _CLOSED)
        self._stale: list[_Piece] = []
        self._calm: list[_Piece] = []
        self._rebased: list[_Piece] = []

    def count(self) -> None:
        """Only bring the counts of points in a row up to date, where the stretch has been evaluated before."""
        rows = self._rows
        for place in range(self._slot_count):
            self._count(place)
            rows.calm[rows.opened >= self._first + place] = 0
        np.minimum(rows.calm, self._course.resolve_after, out=rows.calm)

    def run(self) -> list[EventColumns]:
        """Evaluate and return the events, in any order; their subjects are places in the rows."""
        pending, place = bool(self._rows.run.any()), 0
        while place < self._slot_count:
            if not self._open_count and not pending:
                # Nothing can happen before the next point out of line.
                if self._offsets[place] == self._offsets[-1]:
                    break
                place = int(self._verdicts.found.slots[self._offsets[place]])
            self._count(place)
            if self._offsets[place] < self._offsets[place + 1]:
                self._breach(place)
            if self._open_count:
                if self._verdicts.gone is not None or place == 0:
                    self._go_stale(place)
                self._resolve(place)
            pending = self._course.for_points > 1 and bool(self._rows.run.any())
            place += 1
        events = [
            self._breaches(),
            self._columns(STALE, self._stale),
            self._columns(RESOLVED, self._calm, ResolvedReason.CALM),
            self._columns(RESOLVED, self._rebased, ResolvedReason.REBASED),
        ]
        self._finish()
        return events

    def _count(self, place: int) -> None:
        """Count one slot's points into their rows."""
        rows, verdicts, wanted = self._rows, self._verdicts, self._course.for_points
        calm = rows.calm + 1
        calm *= verdicts.levels[place] <= self._calm_level
        run = rows.run
        if wanted > 1:
            out_of_line = np.zeros(len(run), np.bool_)
            out_of_line[verdicts.found.series[self._offsets[place] : self._offsets[place + 1]]] = True
            run = np.minimum(run + 1, wanted) * out_of_line
        if verdicts.present is not None and verdicts.gone is not None:
            absent, gone = ~verdicts.present[place], verdicts.gone[place]
            np.copyto(calm, rows.calm, where=absent)
            calm[gone] = 0
            if wanted > 1:
                np.copyto(run, rows.run, where=absent)
                run[gone] = 0
        rows.calm, rows.run = calm, run

    def _breach(self, place: int) -> None:
        """Open episodes or go on with them."""
        begin, end = self._offsets[place], self._offsets[place + 1]
        series = self._verdicts.found.series[begin:end]
        opening = self._opening[series]
        opens = opening < 0
        if self._course.for_points > 1:
            opens &= self._rows.run[series] >= self._course.for_points
        which = opens.nonzero()[0]
        if len(which):
            opened, numbers = series[which], which + begin
            opening[which] = numbers
            self._opening[opened] = numbers
            self._calm_level[opened] = self._calm_levels[numbers]
            if self._course.longest is not None:
                due = self._first + place + self._course.longest
                self._due[opened] = due
                self._next_due = min(self._next_due, due)
            self._open_count += len(which)
        self._breached[begin:end] = opening

    def _go_stale(self, place: int) -> None:
        rows, verdicts = self._rows, self._verdicts
        if verdicts.present is None or verdicts.gone is None:
            rows.stale[:] = False
            return
        rows.stale &= ~verdicts.present[place]
        stale = (verdicts.gone[place] & (self._opening >= 0) & ~rows.stale).nonzero()[0]
        if len(stale):
            rows.stale[stale] = True
            self._stale.append((place, stale, self._opening[stale]))

    def _resolve(self, place: int) -> None:
        """Resolve what is calm, else what has become the average by now."""
        # A row that is long enough from before the stretch (the rule has changed) waits for its next point.
        calm = self._rows.calm >= self._course.resolve_after
        if self._verdicts.present is not None:
            calm &= self._verdicts.present[place]
        self._close(place, calm.nonzero()[0], self._calm)
        slot = self._first + place
        if slot >= self._next_due:
            rebased = self._due <= slot
            if self._verdicts.judged is not None:
                rebased &= self._verdicts.judged[place]
            self._close(place, rebased.nonzero()[0], self._rebased)
            self._next_due = int(self._due.min())

    def _close(self, place: int, series: Places, pieces: list[_Piece]) -> None:
        if len(series):
            pieces.append((place, series, self._opening[series]))
            self._opening[series] = _CLOSED
            self._calm_level[series] = -np.inf
            self._due[series] = _NEVER
            self._rows.calm[series] = 0
            self._rows.stale[series] = False
            self._open_count -= len(series)

    def _breaches(self) -> EventColumns:
        found = self._verdicts.found
        which = np.flatnonzero(self._breached != _CLOSED)
        if len(which) == len(found.slots):
            which = slice(None)  # type: ignore[assignment]  # indexes alike, without copies
        return EventColumns.of(
            BREACH,
            found.series[which],
            found.slots[which] + self._first,
            self._opened[self._breached[which]],
            value=found.value[which],
            baseline=found.baseline[which],
            ratio=found.ratio[which],
            threshold=found.threshold[which],
            points=found.points[which],
        )

    def _columns(self, kind: int, pieces: list[_Piece], reason: ResolvedReason | None = None) -> EventColumns:
        if not pieces:
            return EventColumns.joined([])
        places = np.repeat([piece[0] for piece in pieces], [len(piece[1]) for piece in pieces])
        series = np.concatenate([piece[1] for piece in pieces])
        openings = np.concatenate([piece[2] for piece in pieces])
        slots, opened = places + self._first, self._opened[openings]
        if kind == STALE:
            return EventColumns.of(kind, series, slots, opened, points=STALE_SLOTS)
        baseline = self._evidence["baseline"][openings]
        by_factor = self._course.calm_factor is not None
        return EventColumns.of(
            kind,
            series,
            slots,
            opened,
            baseline=baseline,
            ratio=ratio_of(self._verdicts.levels[places, series], baseline),
            threshold=(self._calm_levels if by_factor else self._evidence["threshold"])[openings],
            points=self._points[openings],
            reason=reason,
        )

    def _finish(self) -> None:
        """Leave in the rows what is open now."""
        rows, found = self._rows, self._verdicts.found
        count = len(found.slots)
        was_open = rows.open
        still = np.flatnonzero(was_open & (self._opening >= count))
        # What counts on within an episode that opened after the one that is closed here.
        calm, stale = rows.calm.copy(), rows.stale.copy()
        rows.close(np.flatnonzero(was_open & (self._opening < count)))
        rows.calm, rows.stale = calm, stale
        opened = np.flatnonzero((self._opening >= 0) & (self._opening < count))
        numbers = self._opening[opened]
        rows.opened[opened] = self._opened[numbers]
        for name, column in self._evidence.items():
            getattr(rows, name)[opened] = column[numbers]
        rows.points[opened] = self._points[numbers]
        breaching = np.flatnonzero(self._breached != _CLOSED)
        counts = np.bincount(self._breached[breaching], minlength=len(self._opened))
        last = np.full(len(self._opened), -_NEVER)
        last[self._breached[breaching]] = found.slots[breaching] + self._first
        for series in (still, opened):
            rows.breaches[series] += counts[self._opening[series]]
            rows.last_breach[series] = np.maximum(rows.last_breach[series], last[self._opening[series]])
