"""Episodes of ratio and threshold rules: how they open, last, go stale and resolve, all series at once.

A row of points is broken by a point that cannot be judged and by STALE_SLOTS slots without one; fewer missing slots
neither count nor break it. So where a series stands follows from its open episode and a bounded stretch of its points.

Nothing goes slot by slot, because that would decide how fast history is replayed. Each round looks some points ahead
for where the episodes end that are open now, one of every series; the next of a series begins with its next point out
of line. What breaches and goes stale on the way, and the evidence, is put together afterwards for all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.alerter.evaluation.judging import Verdicts, levels_of
from services.alerter.evaluation.sequences import AHEAD, NEVER, Sequences
from services.alerter.evaluation.states import (
    BREACH,
    REASONS,
    RESOLVED,
    STALE,
    STALE_SLOTS,
    Codes,
    Counts,
    EventColumns,
    Flags,
    Places,
    Rows,
    Stretch,
    ratio_of,
)
from services.core.breaches import ResolvedReason
from services.core.model import Floats, Slots

_AHEAD = np.arange(AHEAD)
_NONE = -1
_CALM, _REBASED = (REASONS.index(reason) for reason in (ResolvedReason.CALM, ResolvedReason.REBASED))


@dataclass(frozen=True, slots=True)
class Course:
    """What a rule says about the course of episodes."""

    for_points: int
    resolve_after: int
    calm_factor: float | None
    """Points at or below so many times the opening's baseline are back in line; None: all that do not breach."""
    longest: int | None
    """After so many slots the new level is the average; None: never."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ended:
    """Episodes that end in the stretch, one an element."""

    openings: Places
    series: Places
    slots: Places
    """Those in which they end, counted from the first of the stretch."""
    reasons: Codes
    """Places in REASONS."""
    first: Places
    """The first of its points out of line, as a place in `found`."""
    beyond: Places
    """The place after the last of them."""


class Episodes:
    """A stretch of slots being evaluated. It changes the rows that it is given.

    Openings are numbered: first the points out of line that were found, which may open an episode, then the episodes
    that are open already. Slots count from the first of the stretch.
    """

    def __init__(self, rows: Rows, stretch: Stretch, magnitudes: Flags, verdicts: Verdicts, course: Course) -> None:
        self._rows = rows
        self._stretch = stretch
        self._magnitudes = magnitudes
        self._verdicts = verdicts
        self._course = course
        series_count, self._slot_count = len(stretch.series), len(stretch)
        self._sequences = Sequences(verdicts.levels, self._slot_count, verdicts.present, verdicts.judged, verdicts.gone)
        found = verdicts.found
        self._found_keys: Places = found.series * self._slot_count + found.slots
        self._found_from: Places = np.searchsorted(found.series, np.arange(series_count + 1))
        earlier = np.flatnonzero(rows.open)
        self._opened: Slots = np.concatenate([found.slots, rows.opened[earlier] - stretch.first])
        self._evidence: dict[str, Floats] = {
            name: np.concatenate([getattr(found, name), getattr(rows, name)[earlier]])
            for name in ("value", "baseline", "ratio", "threshold")
        }
        self._points: Counts = np.concatenate([found.points, rows.points[earlier]])
        baselines, factor = self._evidence["baseline"], course.calm_factor
        self._calm_levels: Floats = np.full(len(baselines), np.inf) if factor is None else baselines * factor
        # Of each series: which opening its episode has, the first of its points in `found`, how far it has been
        # followed, as a place in its sequence, how many points in a row are back in line, and when it ends at last.
        self._opening: Places = np.full(series_count, _NONE)
        self._opening[earlier] = len(found.slots) + np.arange(len(earlier))
        self._first = self._found_from[:-1].copy()
        self._reached: Places = np.full(series_count, NEVER)
        self._reached[earlier] = 0
        self._calm: Counts = np.where(rows.open, rows.calm, 0)
        self._due: Slots = np.full(series_count, NEVER)
        self._set_due(earlier)

    def count(self) -> None:
        """Only bring the counts of points in a row up to date, where the stretch has been evaluated before."""
        self._count_out_of_line()
        earlier = self._still_open
        after = np.clip(self._opened[self._opening[earlier]] + 1, 0, self._slot_count)
        self._reached[earlier] = self._sequences.places(earlier, after)
        while len(series := np.flatnonzero(self._reached < self._sequences.lengths)):
            self._look(series)
        self._rows.calm = np.minimum(self._calm, self._course.resolve_after)

    def run(self) -> list[EventColumns]:
        """Evaluate and return the events, in any order; their subjects are places in the rows."""
        ended = self._follow(self._openers(self._count_out_of_line()))
        openings = self._openings_of_found(ended)
        events = [self._breaches(openings), self._stale(ended), self._resolved(ended)]
        self._finish(openings)
        return events

    @property
    def _still_open(self) -> Places:
        """Which series have an episode now."""
        return np.flatnonzero(self._opening != _NONE)

    def _count_out_of_line(self) -> Counts | None:
        """Count points out of line in a row, up to each of those found; None where one alone is enough to open."""
        wanted, rows, series = self._course.for_points, self._rows, self._verdicts.found.series
        if wanted == 1:
            return None
        places = self._sequences.places(series, self._verdicts.found.slots)
        begins = np.ones(len(places), np.bool_)
        begins[1:] = (series[1:] != series[:-1]) | (places[1:] != places[:-1] + 1)
        here = np.arange(len(places))
        begun = np.maximum.accumulate(np.where(begins, here, 0))
        counts = here - begun + 1 + np.where(places[begun] == 0, rows.run[series], 0)
        counts = np.minimum(counts, wanted)
        last = places == self._sequences.lengths[series] - 1
        rows.run = np.where(self._sequences.lengths > 0, 0, rows.run)
        rows.run[series[last]] = counts[last]
        return counts

    def _openers(self, counts: Counts | None) -> Places:
        """Return, for every place in `found` and the one after them, the first from there on that could open."""
        count = len(self._found_keys)
        openers = np.arange(count + 1)
        if counts is not None:
            openers[:-1][counts < self._course.for_points] = count
            openers = np.minimum.accumulate(openers[::-1])[::-1]
        return openers

    def _follow(self, openers: Places) -> _Ended:
        """Follow the episodes of every series, one after another, and return those that end."""
        quiet = np.flatnonzero(self._opening == _NONE)
        self._open(quiet, openers[self._found_from[quiet]])
        parts = [_NOTHING]
        series = np.flatnonzero(self._reached < self._sequences.lengths)
        while len(series):
            calm, seen = self._look(series)
            due = self._due[series]
            slots = np.minimum(calm, np.where(due <= seen, due, NEVER))
            which = np.flatnonzero(slots != NEVER)
            over, slots = series[which], slots[which]
            reasons = np.where(calm[which] <= due[which], _CALM, _REBASED)
            beyond = np.searchsorted(self._found_keys, over * self._slot_count + slots, "right")
            parts.append((self._opening[over], over, slots, reasons, self._first[over], beyond))
            self._open(over, openers[beyond])
            series = series[self._reached[series] < self._sequences.lengths[series]]
        openings, over, slots, reasons, first, beyond = (np.concatenate(column) for column in zip(*parts, strict=True))
        return _Ended(openings, over, slots, reasons.astype(np.uint8), first, beyond)

    def _open(self, series: Places, openings: Places) -> None:
        """Begin an episode of each series with this point of those found, if it is one of the series, else none."""
        which = openings < self._found_from[series + 1]
        self._opening[series] = _NONE
        self._reached[series] = NEVER
        self._calm[series] = 0
        series, openings = series[which], openings[which]
        self._opening[series] = self._first[series] = openings
        self._reached[series] = self._sequences.places(series, self._opened[openings] + 1)
        self._set_due(series)

    def _set_due(self, series: Places) -> None:
        """Note when the level of an episode will have become the average, if a point can be judged then."""
        if self._course.longest is not None:
            slots = self._opened[self._opening[series]] + self._course.longest
            self._due[series] = self._sequences.judged_from(series, np.maximum(slots, 0))

    def _look(self, series: Places) -> tuple[Places, Places]:
        """Look at the next points of these series, whose episodes are open and whose sequences go on.

        Returns the slots in which enough points in a row are back in line, or NEVER, and the last slots looked at.
        """
        reached, limits = self._reached[series], self._calm_levels[self._opening[series]]
        last = np.minimum(self._sequences.lengths[series] - reached, AHEAD) - 1
        in_line = (self._sequences.ahead(series, reached) <= limits[:, None]) & (last[:, None] >= _AHEAD)
        # A row begins after the last place that is not in line; one that came in from before counts on.
        broken = np.maximum.accumulate(np.where(in_line, -1 - self._calm[series, None], _AHEAD), axis=1)
        counts = _AHEAD - broken
        enough = (counts >= self._course.resolve_after) & in_line
        first, here = enough.argmax(axis=1), np.arange(len(series))
        self._reached[series] += AHEAD
        self._calm[series] = counts[here, last]
        slots = self._sequences.slots(series, reached + first)
        return np.where(enough[here, first], slots, NEVER), self._sequences.slots(series, reached + last)

    def _openings_of_found(self, ended: _Ended) -> Places:
        """Return the openings of the episodes that points out of line belong to, or _NONE."""
        still = self._still_open
        openings = np.concatenate([ended.openings, self._opening[still]])
        first = np.concatenate([ended.first, self._first[still]])
        counts = np.concatenate([ended.beyond, self._found_from[still + 1]]) - first
        result: Places = np.full(len(self._found_keys), _NONE)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        result[np.repeat(first, counts) + within] = np.repeat(openings, counts)
        return result

    def _breaches(self, openings: Places) -> EventColumns:
        found = self._verdicts.found
        which = np.flatnonzero(openings != _NONE)
        if len(which) == len(openings):
            which = slice(None)  # type: ignore[assignment]  # indexes alike, without copies
        return EventColumns.of(
            BREACH,
            found.series[which],
            found.slots[which] + self._stretch.first,
            self._opened[openings[which]] + self._stretch.first,
            value=found.value[which],
            baseline=found.baseline[which],
            ratio=found.ratio[which],
            threshold=found.threshold[which],
            points=found.points[which],
        )

    def _stale(self, ended: _Ended) -> EventColumns:
        """Return where series go stale while an episode is open, once for every time that their points stay away."""
        gone, present = self._verdicts.gone, self._verdicts.present
        if gone is None or present is None:
            return EventColumns.joined([])
        goes = gone.copy()
        goes[:, 1:] &= ~gone[:, :-1]
        series, slots = np.nonzero(goes)
        # By series and end: the episode that is open in a slot is the first to end after it, if it has opened before.
        width, still = self._slot_count + 1, self._still_open
        openings = np.concatenate([ended.openings, self._opening[still]])
        keys = np.concatenate([ended.series * width + ended.slots, still * width + self._slot_count])
        order = np.argsort(keys)
        place = np.searchsorted(keys[order], series * width + slots)
        known = place < len(order)
        series, slots, episode = series[known], slots[known], order[place[known]]
        opened = self._opened[openings[episode]]
        # What the stretch began with as stale has been told, and is until its next point.
        first_point = np.where(present.any(axis=1), present.argmax(axis=1), self._slot_count)
        told = self._rows.stale[series] & (slots < first_point[series])
        which = (keys[episode] // width == series) & (opened < slots) & ~told
        return EventColumns.of(
            STALE,
            series[which],
            slots[which] + self._stretch.first,
            opened[which] + self._stretch.first,
            points=STALE_SLOTS,
        )

    def _resolved(self, ended: _Ended) -> EventColumns:
        series, openings, slots = ended.series, ended.openings, ended.slots + self._stretch.first
        values = self._stretch.block.at(self._stretch.series[series], slots)
        baselines = self._evidence["baseline"][openings]
        by_factor = self._course.calm_factor is not None
        return EventColumns.of(
            RESOLVED,
            series,
            slots,
            self._opened[openings] + self._stretch.first,
            value=values,
            baseline=baselines,
            ratio=ratio_of(levels_of(values, self._magnitudes[series]), baselines),
            threshold=(self._calm_levels if by_factor else self._evidence["threshold"])[openings],
            points=self._points[openings],
            reason=ended.reasons,
        )

    def _finish(self, openings: Places) -> None:
        """Leave in the rows what is open now."""
        rows, found, still = self._rows, self._verdicts.found, self._still_open
        count = len(found.slots)
        stale = np.zeros_like(rows.stale)
        stale[still] = rows.stale[still]
        some = still[self._sequences.lengths[still] > 0]
        stale[some] = self._sequences.ends_gone(some)
        rows.close(np.flatnonzero(rows.open & (self._opening < count)))
        rows.stale, rows.calm = stale, self._calm
        opened = still[self._opening[still] < count]
        numbers = self._opening[opened]
        rows.opened[opened] = self._opened[numbers] + self._stretch.first
        for name, column in self._evidence.items():
            getattr(rows, name)[opened] = column[numbers]
        rows.points[opened] = self._points[numbers]
        breaching = np.flatnonzero(openings != _NONE)
        counts = np.bincount(openings[breaching], minlength=len(self._opened))
        last = np.full(len(self._opened), -NEVER)
        last[openings[breaching]] = found.slots[breaching] + self._stretch.first
        rows.breaches[still] += counts[self._opening[still]]
        rows.last_breach[still] = np.maximum(rows.last_breach[still], last[self._opening[still]])


_NOTHING = (np.empty(0, np.intp),) * 6
