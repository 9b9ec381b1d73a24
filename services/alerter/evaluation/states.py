"""What evaluation works on: blocks of values, where every series stands with one rule, and what is found, as columns.

Columns (numpy, one element a row) because a rule is evaluated for thousands of series at once and found breaches are
only made into `Event`s where somebody asks. It knows nothing of how rules are judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.core.breaches import Event, EventKind, ResolvedReason, Subject
from services.core.model import Floats, Series, Slot, Slots

Places = NDArray[np.intp]
"""Places of subjects in a state, or of what stands in another array."""
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Codes = NDArray[np.uint8]

STALE_SLOTS = 3
"""So many slots without a point, and a series is stale: an open episode says so, and rows of points start anew."""

NOT_OPEN = -(2**62)
"""In a column of opening slots: no episode."""

KINDS = (EventKind.BREACH, EventKind.STALE, EventKind.RESOLVED)
"""Columns hold the place here; it is also the order of events of one subject in one slot."""
BREACH, STALE, RESOLVED = range(3)

REASONS = (None, *ResolvedReason)
"""Columns hold the place here."""


def subject_of(series: Series) -> Subject:
    """Return a series as what events are about."""
    return Subject(series.metric.partition(":")[0], series.metric, series.measure)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Dense values, of shape (series, slots): column i is of slot `start + i`, NaN where there is no point.

    Any memory order will do. `rows[r]` is the row of `values` that belongs to series r of the state; None: row r. So
    one table of values serves rules that select different series.
    """

    start: Slot
    values: Floats
    rows: Places | None = None

    @property
    def end(self) -> int:
        """The slot after the last."""
        return int(self.start + self.values.shape[1])

    def part(self, rows: Places | slice, first: int, end: int) -> Floats:
        """Return the values of these series of the state in the slots [first, end); a view where that is possible."""
        if self.rows is not None:
            rows = self.rows[rows]
        if isinstance(rows, np.ndarray):
            rows = _slice_of(rows)
        return self.values[rows, first - self.start : end - self.start]

    def at(self, rows: Places, slots: Slots) -> Floats:
        """Return single values: of these series of the state, in these slots."""
        return self.values[rows if self.rows is None else self.rows[rows], slots - self.start]

    def check(self, first: int, end: int, reason: str) -> None:
        """Raise ValueError unless the block has all the slots [first, end)."""
        if first < self.start or end > self.end:
            raise ValueError(f"{reason} needs the slots [{first}, {end}), the block has [{self.start}, {self.end})")


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Some series of a state over the slots [first, end) of a block, which are to be evaluated at one go."""

    block: Block
    series: Places
    """In ascending order."""
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def values(self, back: int, chunk: slice | None = None) -> Floats:
        """Return the values of the series, or of a chunk of them, beginning `back` slots earlier: (series, slots)."""
        series = self.series if chunk is None else self.series[chunk]
        return self.block.part(series, self.first - back, self.end)


@dataclass(slots=True, eq=False)
class Rows:
    """Where each subject stands. Rows without an episode hold `fresh`'s values in the episode's columns."""

    run: Counts
    """How many points (or missing slots) in a row are out of line, as far as the rule counts them."""
    calm: Counts
    """How many points in a row, of an open episode, are back in line."""
    last: Floats
    """Frozen rules: the value of the last point; NaN where the series is stale."""
    opened: Counts
    """The slot of the opening, or NOT_OPEN."""
    stale: Flags
    breaches: Counts
    last_breach: Counts
    expected_from: Counts
    """Missing rules: the slot from which on a slot without a point counts; of exchanges unused."""
    value: Floats
    """The evidence of the opening, as in Event, in this column and those below."""
    baseline: Floats
    ratio: Floats
    threshold: Floats
    points: Counts

    @classmethod
    def fresh(cls, count: int) -> Self:
        """Rows in line, without an episode."""
        return cls(
            run=np.zeros(count, np.int64),
            calm=np.zeros(count, np.int64),
            last=np.full(count, np.nan),
            opened=np.full(count, NOT_OPEN, np.int64),
            stale=np.zeros(count, np.bool_),
            breaches=np.zeros(count, np.int64),
            last_breach=np.zeros(count, np.int64),
            expected_from=np.zeros(count, np.int64),
            value=np.full(count, np.nan),
            baseline=np.full(count, np.nan),
            ratio=np.full(count, np.nan),
            threshold=np.full(count, np.nan),
            points=np.zeros(count, np.int64),
        )

    @property
    def open(self) -> Flags:
        """Where an episode is open."""
        return np.not_equal(self.opened, NOT_OPEN)

    def take(self, rows: Places | slice) -> Self:
        """Copy some rows."""
        return type(self)(*(np.array(getattr(self, name)[rows]) for name in _COLUMNS))

    def put(self, rows: Places | slice, other: Rows) -> None:
        """Replace some rows."""
        for name in _COLUMNS:
            getattr(self, name)[rows] = getattr(other, name)

    def close(self, rows: Places) -> None:
        """Forget the episodes of these rows."""
        self.opened[rows] = NOT_OPEN
        self.stale[rows] = False
        for column in (self.calm, self.breaches, self.last_breach, self.points):
            column[rows] = 0
        for evidence in (self.value, self.baseline, self.ratio, self.threshold):
            evidence[rows] = np.nan


_COLUMNS = tuple(column.name for column in dataclasses.fields(Rows))


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where every series that a rule selects stands with it; made by `evaluation.restore`, and never changed."""

    subjects: tuple[Subject, ...]
    """The series, in the order of the block's rows; in missing rules, their exchanges after them."""
    series_count: int
    ranks: Counts
    """The place of each subject's key in ascending order."""
    evaluated: Slots
    """The last slot evaluated, of each subject. In missing rules an exchange's series advance together."""
    rows: Rows
    magnitudes: Flags
    """Of each series: whether signs are left out."""
    groups: Places
    """Missing rules: for each series, which of the exchanges it is of."""
    openings: Mapping[int, Event] = field(default_factory=dict)
    """By subject: the openings of the episodes that were restored, as they stand in the log."""


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Events as columns, all of one length, those of one rule; `events.to_events` makes objects of them."""

    kinds: Codes
    """Places in KINDS."""
    subjects: Places
    """Places in the state's subjects."""
    slots: Slots
    opened: Slots
    values: Floats
    baselines: Floats
    ratios: Floats
    thresholds: Floats
    points: Counts
    reasons: Codes
    """Places in REASONS."""

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def breach_count(self) -> int:
        """How many of them are breaches."""
        return int(np.count_nonzero(self.kinds == BREACH))

    @property
    def opening_count(self) -> int:
        """How many of them open an episode."""
        return int(np.count_nonzero((self.kinds == BREACH) & (self.slots == self.opened)))

    def take(self, which: Places | slice) -> Self:
        """Return some of them."""
        return type(self)(*(getattr(self, name)[which] for name in _EVENT_COLUMNS))

    def ordered(self, ranks: Counts, most: int | None = None) -> Self:
        """Return them, or the first `most` of them, by slot, subject's key and kind."""
        if not len(self):
            return self
        base = int(self.slots.min())
        keys = ((self.slots - base) * len(ranks) + ranks[self.subjects]) * len(KINDS) + self.kinds
        if most is None or most >= len(keys):
            return self.take(np.argsort(keys))
        first = np.argpartition(keys, most)[:most]
        return self.take(first[np.argsort(keys[first])])

    @classmethod
    def joined(cls, parts: Sequence[EventColumns]) -> Self:
        """Join them in their order."""
        return cls(*(np.concatenate([getattr(part, name) for part in (_NO_EVENTS, *parts)]) for name in _EVENT_COLUMNS))

    @classmethod
    def of(
        cls,
        kind: int,
        subjects: Places,
        slots: int | Slots,
        opened: int | Slots,
        *,
        value: float | Floats = np.nan,
        baseline: float | Floats = np.nan,
        threshold: float | Floats = np.nan,
        ratio: float | Floats | None = None,
        points: int | Counts = 0,
        reason: ResolvedReason | Codes | None = None,
    ) -> Self:
        """Build columns; a single number stands for all. Without `ratio` it is the value over the baseline."""
        count = len(subjects)
        values, baselines = _floats(value, count), _floats(baseline, count)
        if ratio is None:
            ratio = ratio_of(values, baselines)
        return cls(
            np.full(count, kind, np.uint8),
            subjects,
            _whole(slots, count),
            _whole(opened, count),
            values,
            baselines,
            _floats(ratio, count),
            _floats(threshold, count),
            _whole(points, count),
            reason if isinstance(reason, np.ndarray) else np.full(count, REASONS.index(reason), np.uint8),
        )


def ratio_of(values: Floats, baselines: Floats) -> Floats:
    """Return values over baselines, NaN where a baseline is zero or absent."""
    ratios = np.full(np.shape(baselines), np.nan)
    np.divide(values, baselines, out=ratios, where=np.not_equal(baselines, 0))
    return ratios


def _slice_of(rows: Places) -> Places | slice:
    """Return rows that follow each other at one distance as a slice, which is read without a copy."""
    if not len(rows):
        return rows
    distance = int(rows[1] - rows[0]) if len(rows) > 1 else 1
    if distance < 1 or (np.diff(rows) != distance).any():
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1, distance)


def _floats(value: float | Floats, count: int) -> Floats:
    return value if isinstance(value, np.ndarray) else np.full(count, value, np.float64)


def _whole(value: int | Counts, count: int) -> Counts:
    return value if isinstance(value, np.ndarray) else np.full(count, value, np.int64)


_EVENT_COLUMNS = tuple(column.name for column in dataclasses.fields(EventColumns))
_NO_EVENTS = EventColumns.of(BREACH, np.empty(0, np.intp), 0, 0)


def ranks_of(subjects: Iterable[Subject]) -> Counts:
    """Return the place of each subject's key among all of them, in ascending order."""
    keys = [subject.key for subject in subjects]
    ranks = np.empty(len(keys), np.int64)
    ranks[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return ranks
