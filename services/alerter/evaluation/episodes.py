"""Episodes of ratio and threshold rules: how they open, last, go stale and resolve, all series at once.

A row of points is broken by a point that cannot be judged and by STALE_SLOTS slots without one; fewer missing slots
neither count nor break it. So where a series stands follows from its open episode and a bounded stretch of its points.

Nothing goes slot by slot, because that would decide how fast history is replayed. How an episode ends depends on its
opening and the points after it alone, so the points right after all likely openings are looked at together. Then the
episodes of each series are chained, the next beginning with the next point out of line, and those that last are looked
at further. What breaches and goes stale on the way, and the evidence, is put together afterwards for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.alerter.evaluation.judging import Verdicts, levels_of
from services.alerter.evaluation.runs import NO_PLACE, WORD_BITS, first_enough, last_row, words_of
from services.alerter.evaluation.sequences import NEVER, Sequences
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

_AT_ONCE = 4096
"""How many openings are looked at together: what lies ahead of them is half a megabyte, and stays in the cache."""

_GLANCES = 4
"""How often WORD_BITS points are looked at before it is known whether there is such an episode."""

_FEW = 2
"""How many points out of line an episode has after its first, or fewer, as a rule."""

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
        self._slot_count = len(stretch)
        self._sequences = Sequences(verdicts.levels, self._slot_count, verdicts.present, verdicts.judged, verdicts.gone)
        found = verdicts.found
        self._found_keys: Places = np.append(found.series * self._slot_count + found.slots, NEVER)
        self._found_from: Places = np.searchsorted(found.series, np.arange(len(stretch.series) + 1))
        earlier = np.flatnonzero(rows.open)
        # Of each opening: its series, its slot and its evidence.
        self._series: Places = np.concatenate([found.series, earlier])
        self._opened: Slots = np.concatenate([found.slots, rows.opened[earlier] - stretch.first])
        self._evidence: dict[str, Floats] = {
            name: np.concatenate([getattr(found, name), getattr(rows, name)[earlier]])
            for name in ("value", "baseline", "ratio", "threshold")
        }
        self._points: Counts = np.concatenate([found.points, rows.points[earlier]])
        baselines, factor = self._evidence["baseline"], course.calm_factor
        self._calm_levels: Floats = np.full(len(baselines), np.inf) if factor is None else baselines * factor
        # Of each opening: how far its episode has been followed, as a place in the sequence of its series, and how many
        # points in a row are back in line there; when it ends at last.
        self._earlier: Places = len(found.slots) + np.arange(len(earlier))
        self._reached: Places = self._sequences.places(self._series, np.clip(self._opened + 1, 0, self._slot_count))
        self._calm: Counts = np.zeros(len(self._series), np.int64)
        self._calm[self._earlier] = rows.calm[earlier]
        self._due: Slots | None = None
        if course.longest is not None:
            self._due = self._sequences.judged_from(self._series, np.maximum(self._opened + course.longest, 0))
        # Of those that have been seen to end: the slot, its level where it is known, the reason as a place in REASONS,
        # and the place in `found` after the last of its points out of line.
        self._ends: Slots = np.full(len(self._series), NEVER)
        self._levels: Floats = np.full(len(self._series), np.nan)
        self._reasons: Codes = np.zeros(len(self._series), np.uint8)
        self._beyond: Places = np.zeros(len(self._series), np.intp)

    def count(self) -> None:
        """Only bring the counts of points in a row up to date, where the stretch has been evaluated before."""
        self._count_out_of_line()
        going = self._earlier
        while len(going := going[self._goes_on(going)]):
            self._look(going)
        rows = self._rows
        rows.calm = np.zeros_like(rows.calm)
        rows.calm[self._series[self._earlier]] = np.minimum(self._calm[self._earlier], self._course.resolve_after)

    def run(self) -> list[EventColumns]:
        """Evaluate and return the events, in any order; their subjects are places in the rows."""
        ended, still = self._follow(self._openers(self._count_out_of_line()))
        openings = self._openings_of_found(ended, still)
        events = [self._breaches(openings), self._stale(ended, still), self._resolved(ended)]
        self._finish(openings, still)
        return events

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
        count = len(self._verdicts.found.slots)
        openers = np.arange(count + 1)
        if counts is not None:
            openers[:-1][counts < self._course.for_points] = count
            openers = np.minimum.accumulate(openers[::-1])[::-1]
        return openers

    def _follow(self, openers: Places) -> tuple[Places, Places]:
        """Follow the episodes of every series, one after another; return the openings of those that end, and others."""
        likely = np.flatnonzero(openers[:-1] == np.arange(len(openers) - 1))
        # Of openers one right after the other it is nearly always the first that opens an episode.
        first = np.ones(len(likely), np.bool_)
        first[1:] = np.diff(self._found_keys[likely]) != 1
        self._look_ahead(likely[first])
        quiet = np.flatnonzero(~self._rows.open)
        going = np.concatenate([self._earlier, self._next(openers, self._found_from[quiet], quiet)])
        ended, still = [going[:0]], [going[:0]]
        while len(going):
            over = self._ends[going] != NEVER
            done, lasting = going[over], going[~over]
            ended.append(done)
            if len(lasting):
                more = self._goes_on(lasting)
                still.append(lasting[~more])
                lasting = lasting[more]
                self._look(lasting)
            going = np.concatenate([lasting, self._next(openers, self._beyond[done], self._series[done])])
        return np.concatenate(ended), np.concatenate(still)

    def _next(self, openers: Places, found: Places, series: Places) -> Places:
        """Return the first openings of the series at or after these places in `found`; of some there is none."""
        openings = openers[found]
        return openings[openings < self._found_from[series + 1]]

    def _goes_on(self, openings: Places) -> Flags:
        """Whether there are points of an episode that have not been looked at."""
        return self._reached[openings] < self._sequences.lengths[self._series[openings]]

    def _look_ahead(self, openings: Places) -> None:
        """Look at the points after these openings, but not at many: of some the episodes may never be."""
        for _ in range(_GLANCES):
            openings = openings[self._goes_on(openings) & (self._ends[openings] == NEVER)]
            for place in range(0, len(openings), _AT_ONCE):
                self._look(openings[place : place + _AT_ONCE])

    def _look(self, openings: Places) -> None:
        """Look at the next points of these openings' episodes, which are open and have some; note where they end."""
        if not len(openings):
            return
        series, reached, calm = self._series[openings], self._reached[openings], self._calm[openings]
        lengths = np.minimum(self._sequences.lengths[series] - reached, WORD_BITS)
        levels = self._sequences.ahead(series, reached)
        words = words_of(levels <= self._calm_levels[openings, None], lengths)
        places = first_enough(words, calm, self._course.resolve_after)
        within = np.minimum(places, lengths - 1)
        slots = self._sequences.slots(series, reached + within)
        slots[places == NO_PLACE] = NEVER
        reasons = np.full(len(openings), _CALM, np.uint8)
        if self._due is not None:
            due, seen = self._due[openings], self._sequences.slots(series, reached + lengths - 1)
            rebased = (due <= seen) & (due < slots)
            slots[rebased], reasons[rebased] = due[rebased], _REBASED
        self._reached[openings] = reached + lengths
        self._calm[openings] = last_row(words, lengths, calm)
        over = np.flatnonzero(slots != NEVER)
        which = openings[over]
        self._ends[which], self._reasons[which] = slots[over], reasons[over]
        self._levels[which] = np.where(reasons[over] == _CALM, levels[over, within[over]], np.nan)
        self._beyond[which] = self._after(which, series[over] * self._slot_count + slots[over])

    def _after(self, openings: Places, keys: Places) -> Places:
        """Return the places in `found` after those keys, where these openings' episodes end."""
        count = len(self._found_keys) - 1
        places = np.where(openings < count, openings + 1, self._found_from[self._series[openings]])
        for _ in range(_FEW):
            places += self._found_keys[places] <= keys
        far = np.flatnonzero(self._found_keys[places] <= keys)
        places[far] = np.searchsorted(self._found_keys, keys[far], "right")
        return places

    def _openings_of_found(self, ended: Places, still: Places) -> Places:
        """Return the openings of the episodes that points out of line belong to, or _NONE."""
        openings = np.concatenate([ended, still])
        count = len(self._verdicts.found.slots)
        first = np.where(openings < count, openings, self._found_from[self._series[openings]])
        counts = np.concatenate([self._beyond[ended], self._found_from[self._series[still] + 1]]) - first
        result: Places = np.full(count, _NONE)
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

    def _stale(self, ended: Places, still: Places) -> EventColumns:
        """Return where series go stale while an episode is open, once for every time that their points stay away."""
        gone, present = self._verdicts.gone, self._verdicts.present
        if gone is None or present is None:
            return EventColumns.joined([])
        goes = gone.copy()
        goes[:, 1:] &= ~gone[:, :-1]
        series, slots = np.nonzero(goes)
        # By series and end: the episode that is open in a slot is the first to end after it, if it has opened before.
        width = self._slot_count + 1
        openings = np.concatenate([ended, still])
        ends = np.minimum(self._ends[openings], self._slot_count)
        keys = self._series[openings] * width + ends
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

    def _resolved(self, ended: Places) -> EventColumns:
        series, slots = self._series[ended], self._ends[ended] + self._stretch.first
        values, signed = self._levels[ended], self._magnitudes[series]
        unknown = np.flatnonzero(np.isnan(values) | signed)
        values[unknown] = self._stretch.block.at(self._stretch.series[series[unknown]], slots[unknown])
        baselines = self._evidence["baseline"][ended]
        by_factor = self._course.calm_factor is not None
        return EventColumns.of(
            RESOLVED,
            series,
            slots,
            self._opened[ended] + self._stretch.first,
            value=values,
            baseline=baselines,
            ratio=ratio_of(levels_of(values, signed), baselines),
            threshold=(self._calm_levels if by_factor else self._evidence["threshold"])[ended],
            points=self._points[ended],
            reason=self._reasons[ended],
        )

    def _finish(self, openings: Places, still: Places) -> None:
        """Leave in the rows what is open now."""
        rows, found = self._rows, self._verdicts.found
        series = self._series[still]
        new = still < len(found.slots)
        over = rows.open
        over[series[~new]] = False
        stale = np.zeros_like(rows.stale)
        stale[series] = rows.stale[series]
        some = series[self._sequences.lengths[series] > 0]
        stale[some] = self._sequences.ends_gone(some)
        rows.close(np.flatnonzero(over))
        rows.stale, rows.calm = stale, np.zeros_like(rows.calm)
        rows.calm[series] = self._calm[still]
        opened, numbers = series[new], still[new]
        rows.opened[opened] = self._opened[numbers] + self._stretch.first
        for name, column in self._evidence.items():
            getattr(rows, name)[opened] = column[numbers]
        rows.points[opened] = self._points[numbers]
        breaching = np.flatnonzero(openings != _NONE)
        counts = np.bincount(openings[breaching], minlength=len(self._opened))
        last = np.full(len(self._opened), -NEVER)
        last[openings[breaching]] = found.slots[breaching] + self._stretch.first
        rows.breaches[series] += counts[still]
        rows.last_breach[series] = np.maximum(rows.last_breach[series], last[still])
