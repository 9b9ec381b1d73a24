"""The course of one stream of points: what the cursor has missed, then what comes, until it is to end.

Pure of any wire format: whoever composes it says how points are encoded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from services.core.errors import SlowSubscriberError
from services.core.model import Measure, Points
from services.core.store.base import Mark, MetricReader
from services.query.broadcasting import Batch, Subscriber
from services.query.storage import StoreGate

Encode = Callable[[Points], Iterator[bytes]]

Step = tuple[Iterable[bytes], Mark, Mark]
"""Encoded messages, the mark before them all and the mark after the last; without messages it is a bookmark."""


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """How long a stream may be silent, and how long it may live, in seconds."""

    bookmark_seconds: float = 15.0
    longest_seconds: float = 1800.0
    """Give or take a tenth, so that streams opened together do not end together."""


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """Which points; empty sets stand for all. Without a cursor from now on."""

    metrics: frozenset[str]
    measures: frozenset[Measure]
    cursor: Mark | None

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.metrics and not self.measures

    def choose(self, points: Points) -> Points:
        """Return the points that were asked for."""
        if self.everything:
            return points
        wanted = [
            (not self.metrics or series.metric in self.metrics)
            and (not self.measures or series.measure in self.measures)
            for series in points.series
        ]
        keep = np.array(wanted, bool)[points.series_index]
        return Points(
            points.series, points.series_index[keep], points.slots[keep], points.values[keep], points.qualities[keep]
        )


class Watching:
    """Follows subscribers' batches for as many streams as there are."""

    def __init__(self, reader: MetricReader, gate: StoreGate, times: WatchTimes, encode: Encode) -> None:
        self._reader = reader
        self._gate = gate
        self._times = times
        self._encode = encode

    def follow(
        self, query: WatchQuery, subscriber: Subscriber, remaining_seconds: Callable[[], float]
    ) -> Iterator[Step]:
        """Yield a stream's steps: a bookmark at once, then whatever comes, at last a bookmark.

        The subscription is older than the cursor's reading of the store, so that nothing falls between; what lies in
        both comes twice. Raises SlowSubscriberError when the subscriber has overflowed, and what the store says to a
        cursor that it cannot continue.
        """
        cursor = subscriber.start
        if query.cursor is None:
            yield (), cursor, cursor
        else:
            cursor = query.cursor
            changes = self._gate.read(lambda: self._reader.read_since(cursor), remaining_seconds())
            yield (), cursor, cursor
            yield self._encode(query.choose(changes.points)), cursor, changes.mark
            cursor = changes.mark
        ends_at = time.monotonic() + self._times.longest_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        bookmark_at = time.monotonic() + self._times.bookmark_seconds
        while (now := time.monotonic()) < ends_at:
            taken = subscriber.take(min(bookmark_at, ends_at) - now)
            if subscriber.overflowed:
                raise SlowSubscriberError(cursor)
            if taken is None:
                break
            if isinstance(taken, Batch):
                before, cursor = cursor, taken.after
                if not (bodies := self._bodies(query, taken)):
                    continue
                yield bodies, before, cursor
            else:
                cursor = taken
                yield (), cursor, cursor
            bookmark_at = time.monotonic() + self._times.bookmark_seconds
        yield (), cursor, cursor

    def _bodies(self, query: WatchQuery, batch: Batch) -> tuple[bytes, ...]:
        """Return a batch's messages; streams that want everything share them."""
        if not query.everything:
            return tuple(self._encode(query.choose(batch.points)))
        if batch.encoded is None:
            batch.encoded = tuple(self._encode(batch.points))
        return batch.encoded
