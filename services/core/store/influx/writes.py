"""The write order of a store that keeps none: records of what writers are about to write, and have written.

InfluxDB does not know what came after what. So each write leaves a record: begun before its points, done after them. A
follower reads again what was announced since its mark. A record that is begun and not done is read again at each poll
until it is so old that no write can still be under way: a writer that was killed between the two loses nothing. So that
this reading stays small, a write of many slots is made and announced in parts, of which few are under way at a time.

A mark is a moment of a clock, in microseconds. Records up to `OVERLAP_SECONDS` before a mark are looked at again, so
that writers whose clocks differ by less, or whose writes take as long, are not missed; what was done and seen already
is remembered here, so that looking again reads nothing again. Pure: it knows neither connection nor clock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from services.core.model import Points, Slot, Window

OVERLAP_SECONDS = 300.0
"""How far the clocks of writers and followers may differ, and how long a write may take."""

_FEW_METRICS = 16
"""A write of more metrics is announced as one of all."""
_PART_CELLS = 1 << 17
"""How many series times slots a record of several slots may make a follower read. With fewer the reading of many series
is hardly faster, for each of them costs the server something, and a long repair is written in many small requests."""
_REMEMBERED_MARKS = 64


@dataclass(frozen=True, slots=True)
class Announcement:
    """One record: what a write touches, metrics in ascending order; no metrics means any."""

    identity: str
    window: Window
    metrics: tuple[str, ...]
    done: bool


def parts(points: Points, breadth: int = 0) -> Iterator[tuple[Points, Window, tuple[str, ...]]]:
    """Split a write into parts, and say what each announces: its window, and its metrics or, of more than a few, none.

    Without points there is no part. Parts come from the oldest slots to the newest; those of one slot stay together, in
    their order. `breadth` is how many series a reading of all metrics is taken to have: those of the whole write.
    """
    if not len(points):
        return
    window = Window(Slot(int(points.slots.min())), Slot(int(points.slots.max()) + 1))
    touched = np.flatnonzero(np.bincount(points.series_index)).tolist()
    names = {points.series[place].metric for place in touched}
    metrics = tuple(sorted(names)) if len(names) <= _FEW_METRICS else ()
    breadth = breadth or len(touched)
    if len(window) == 1 or len(window) * (len(touched) if metrics else breadth) <= _PART_CELLS:
        yield points, window, metrics
        return
    early = points.slots < (window.start + window.end) // 2
    for half in (early, ~early):
        yield from parts(points.select(half), breadth)


class Rising:
    """Numbers that rise: no two threads of a process are given the same, however slowly its clock moves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = 0

    def next(self, wished: int) -> int:
        """Return the wished number, or the next one that is greater than every number given before."""
        with self._lock:
            self._newest = max(self._newest + 1, wished)
            return self._newest


class SeenWrites:
    """Which finished writes were seen when a mark was made; for marks of this process, the newest ones."""

    def __init__(self) -> None:
        self._by_mark: OrderedDict[int, frozenset[str]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, place: int, announcements: Iterable[Announcement]) -> None:
        """Note what is done by the time of this mark."""
        with self._lock:
            self._by_mark[place] = frozenset(each.identity for each in announcements if each.done)
            while len(self._by_mark) > _REMEMBERED_MARKS:
                self._by_mark.popitem(last=False)

    def unseen(self, place: int, announcements: Iterable[Announcement]) -> list[Announcement]:
        """Those that were not done at the mark; all of them for a mark that is not remembered."""
        with self._lock:
            seen = self._by_mark.get(place, frozenset())
        return [each for each in announcements if each.identity not in seen]


def to_read(announcements: Iterable[Announcement]) -> list[tuple[Window, tuple[str, ...]]]:
    """What has to be read again: few windows, each of the metrics named or, without names, of any."""
    by_metric: defaultdict[str, list[Window]] = defaultdict(list)
    for each in announcements:
        for metric in each.metrics or ("",):
            by_metric[metric].append(each.window)
    by_windows: defaultdict[tuple[Window, ...], list[str]] = defaultdict(list)
    for metric, windows in by_metric.items():
        by_windows[_merged(windows)].append(metric)
    reads: list[tuple[Window, tuple[str, ...]]] = []
    for merged, metrics in by_windows.items():
        if "" in metrics:
            reads += [(window, ()) for window in merged]
        named = sorted(set(metrics) - {""})
        for start in range(0, len(named), _FEW_METRICS):
            reads += [(window, tuple(named[start : start + _FEW_METRICS])) for window in merged]
    return reads


def _merged(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Join windows that touch or nearly do: a query costs more than the slots between."""
    merged: list[Window] = []
    for window in sorted(windows, key=lambda each: each.start):
        if merged and window.start - merged[-1].end < 30:  # noqa: PLR2004 - half an hour
            merged[-1] = Window(merged[-1].start, Slot(max(merged[-1].end, window.end)))
        else:
            merged.append(window)
    return tuple(merged)
