"""What callers can ask: the list of metrics, one series' history, a ranking. On the hot window, beyond it on the store.

Pure of any wire format: times are slots, answers are columns. Nothing here waits but for the store.
"""

from __future__ import annotations

import bisect
import difflib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from services.core.clock import Clock
from services.core.errors import InvalidPageTokenError, MetricNotFoundError, NotReadyError
from services.core.model import (
    DAY_SLOTS,
    EARLIEST,
    MEASURES,
    SLOT_SECONDS,
    Floats,
    Qualities,
    Quality,
    Series,
    Slot,
    Window,
    last_complete_slot,
    slot_time,
)
from services.core.ranking import disperse, order
from services.core.store.base import RETENTION_DAYS, MetricReader
from services.core.store.gate import StoreGate
from services.query.histories import aggregate, history_window, maximal_ranges, missing_ranges
from services.query.questions import (
    History,
    HistoryQuery,
    ListedMetric,
    MeasureSummary,
    Ranking,
    Rankings,
    RankQuery,
)
from services.query.window import HotWindow, Summaries

LATE_RUN_SECONDS = 180.0
"""How long after its slot's end the newest run still says where the present is."""

TOKEN_SLOTS = 60
"""For how long a page token holds its window still."""


_MOST_CANDIDATES = 2000

_KNOWN_SECONDS = 60.0
_UNKNOWN_SECONDS = 5.0
"""For how long the store's list of series answers for a name that is on it, or is not."""

_AHEAD_SLOTS = 2
_MOST_REMEMBERED = 32
"""Whole lists and rankings kept within a generation: the usual questions, and room for the odd ones."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, eq=False)
class _Board:
    """A whole ranking, as columns; names by place."""

    window: Window
    names: tuple[str, ...]
    ranks: list[int]
    values: list[float]
    counts: list[int]
    unranked: tuple[str, ...]


class Querying:
    """The use cases. Safe to call from any number of threads."""

    def __init__(self, window: HotWindow, reader: MetricReader, gate: StoreGate, clock: Clock) -> None:
        self._window = window
        self._reader = reader
        self._gate = gate
        self._clock = clock
        self._memo: dict[object, object] = {}
        self._memo_of: tuple[int, Slot] | None = None
        self._memo_lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._known_at = float("-inf")

    def present(self) -> tuple[int, Slot]:
        """Return the generation: while it is equal, so is every answer. The second part is the window's end.

        The end is that of the newest slot any run has written or, once that is over three minutes old, of the last
        complete one. Raises NotReadyError while the window is being filled.
        """
        if not self._window.ready:
            raise NotReadyError("the last 24 hours are still being loaded")
        now = self._clock.now()
        newest = self._window.newest_run
        complete = last_complete_slot(now)
        if newest is None or now - (newest + 1) * SLOT_SECONDS > LATE_RUN_SECONDS or newest > complete + _AHEAD_SLOTS:
            newest = complete
        return self._window.version, Slot(newest + 1)

    def list_metrics(self, exchange: str | None, after: str, limit: int) -> tuple[list[ListedMetric], bool]:
        """Return up to `limit` metrics whose names follow `after`, and whether there are more."""
        generation = self.present()
        names, summaries = self._once("list", generation, lambda: self._summarise(generation[1]))
        first, last = 0, len(names)
        if exchange is not None:
            # ";" is the character after ":", so these are the borders of the exchange's names.
            first, last = bisect.bisect_left(names, f"{exchange}:"), bisect.bisect_left(names, f"{exchange};")
        start = max(first, bisect.bisect_right(names, after))
        page = names[start : min(start + limit, last)]
        return [ListedMetric(name, summaries[name]) for name in page], start + limit < last

    def get_history(self, query: HistoryQuery, remaining_seconds: float) -> History:
        """Return one series over a range.

        `remaining_seconds` is the caller's time, which matters where the store has to be asked. Raises
        InvalidInputError for a range that cannot be, MetricNotFoundError for a metric the store has no point of, and
        StoreUnavailableError or DeadlineTooShortError where only the store could have answered.
        """
        _, present_end = self.present()
        end = present_end if query.end is None else query.end
        start = Slot(max(end - DAY_SLOTS, EARLIEST)) if query.start is None else query.start
        window = history_window(query, start, end)
        self._require_known(query.metric.name, remaining_seconds)
        series = Series(query.metric.name, query.measure)
        # Far past and future hold no points, so they cost nothing: only what may hold some is read.
        oldest = last_complete_slot(self._clock.now()) - (RETENTION_DAYS + 1) * DAY_SLOTS
        step = query.interval_slots
        inner_start = window.start + max(0, (oldest - window.start) // step) * step
        inner = Window(
            Slot(min(inner_start, window.end)),
            Slot(min(max(inner_start, self._window.head + 1, present_end), window.end)),
        )
        values, qualities = self._read(series, inner, remaining_seconds)
        aggregated = np.full(-(-len(window) // step), np.nan)
        made = aggregate(values, step, query.aggregation)
        offset = (inner.start - window.start) // step
        aggregated[offset : offset + len(made)] = made
        present = qualities != 0
        return History(
            window,
            step,
            aggregated,
            missing_ranges(present, inner, window),
            maximal_ranges(qualities == Quality.BACKFILLED, inner.start),
            float(np.count_nonzero(present)) / len(window) if len(window) else 0.0,
        )

    def rank_metrics(self, query: RankQuery, limit: int) -> Rankings:
        """Return up to `limit` places of the ranking after `query.after`.

        Raises InvalidPageTokenError when `query.end` is farther back than tokens hold.
        """
        generation = self.present()
        present_end = generation[1]
        end = present_end if query.end is None else query.end
        # Of several servers one may be a moment ahead of another: its token is not an expired one.
        if (
            end > present_end + _AHEAD_SLOTS
            or present_end - end > TOKEN_SLOTS
            or end - DAY_SLOTS < self._window.covered_from
        ):
            raise InvalidPageTokenError(f"has expired: its window ended at {slot_time(end):%Y-%m-%d %H:%M} UTC")
        window = Window.ending(end, query.slots)
        board = self._once(
            ("rank", query.measure, query.statistic, window), generation, lambda: self._rank(query, window)
        )
        start = 0
        if query.after is not None:
            value, name = query.after
            low, high = 0, len(board.names)
            while low < high:
                middle = (low + high) // 2
                if (-board.values[middle], board.names[middle]) <= (-value, name):
                    low = middle + 1
                else:
                    high = middle
            start = low
        page = slice(start, start + limit)
        columns = (board.names[page], board.ranks[page], board.values[page], board.counts[page])
        return Rankings(
            window,
            tuple(map(Ranking._make, zip(*columns, strict=True))),
            start + limit < len(board.names),
            len(board.names),
            board.unranked if query.after is None else (),
        )

    def _once(self, key: object, generation: tuple[int, Slot], work: Callable[[], _Answer]) -> _Answer:
        """Return what `work` returned for this key in this generation; whoever comes meanwhile waits for it."""
        with self._memo_lock:
            if self._memo_of != generation:
                self._memo, self._memo_of = {}, generation
            if key not in self._memo:
                while len(self._memo) >= _MOST_REMEMBERED:
                    del self._memo[next(iter(self._memo))]
                self._memo[key] = self._window.consistent(work)
            return self._memo[key]  # type: ignore[return-value]  # the key decides the type

    def _summarise(self, end: Slot) -> tuple[list[str], dict[str, tuple[MeasureSummary, ...]]]:
        found: dict[str, list[MeasureSummary]] = {}
        for measure in MEASURES:
            summaries: Summaries = self._window.summarise(measure, Window.ending(end))
            columns = (
                summaries.names,
                *(c.tolist() for c in (summaries.last_slots, summaries.last_values, summaries.counts)),
            )
            for name, slot, value, count in zip(*columns, strict=True):
                if count:
                    found.setdefault(name, []).append(MeasureSummary(measure, slot, value, count))
        return sorted(found), {name: tuple(measures) for name, measures in found.items()}

    def _rank(self, query: RankQuery, window: Window) -> _Board:
        names = self._window.names(query.measure)
        by_name = self._window.by_name(query.measure)
        whole = disperse(self._window.scan(query.measure, window), query.statistic)
        places = order(whole.values[by_name])
        rows = by_name[places.places]
        unranked: list[str] = []
        if len(rows) < len(names):
            ranked = frozenset(rows.tolist())
            day = self._window.summarise(query.measure, Window.ending(window.end))
            unranked = [
                name
                for name, count, row in zip(day.names, day.counts.tolist(), by_name.tolist(), strict=True)
                if count and row not in ranked
            ]
        return _Board(
            window,
            tuple(map(names.__getitem__, rows.tolist())),
            places.ranks.tolist(),
            whole.values[rows].tolist(),
            whole.counts[rows].tolist(),
            tuple(unranked),
        )

    def _read(self, series: Series, window: Window, remaining_seconds: float) -> tuple[Floats, Qualities]:
        """Read a series, what the window does not cover from the store."""
        with self._window.lock:
            border = Slot(min(max(self._window.covered_from, window.start), window.end))
            recent = self._window.read(series, Window(border, window.end))
        if border == window.start:
            return recent
        old = Window(window.start, border)
        columns = self._gate.read(lambda: self._reader.read_series(series, old), remaining_seconds)
        return np.concatenate([columns.values, recent[0]]), np.concatenate([columns.qualities, recent[1]])

    def _require_known(self, name: str, remaining_seconds: float) -> None:
        if name in self._window.metrics:
            return
        known, age = self._known, self._clock.now() - self._known_at
        if not 0 <= age < (_KNOWN_SECONDS if name in known else _UNKNOWN_SECONDS):
            known = self._gate.read(
                lambda: frozenset(series.metric for series in self._reader.list_series()), remaining_seconds
            )
            self._known, self._known_at = known, self._clock.now()
        if name not in known:
            raise MetricNotFoundError(name, nearest(name, known | self._window.metrics))


def nearest(name: str, names: frozenset[str]) -> tuple[str, ...]:
    """Return up to three names that are most like a name, the likeliest first."""
    exchange, _, pair = name.partition(":")
    likely = [other for other in names if other.startswith(f"{exchange}:") or other.endswith(f":{pair}")]
    candidates = sorted(likely or names)[:_MOST_CANDIDATES]
    return tuple(difflib.get_close_matches(name, candidates, n=3, cutoff=0.6))
