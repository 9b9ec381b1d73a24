"""The course of one stream of points: what the cursor has missed, then what comes, until it is to end.

Pure of any wire format: whoever composes it says how points are encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from services.core import streaming
from services.core.broadcasting import Batch, Broadcast, Subscriber
from services.core.model import Measure, Points
from services.core.store.base import Mark, MetricReader
from services.core.store.gate import StoreGate
from services.core.streaming import Step, WatchTimes

Encode = Callable[[Points], Iterator[bytes]]

PointBatch = Batch[Points, Mark]
PointSubscriber = Subscriber[Points, Mark]
PointBroadcast = Broadcast[Points, Mark]


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
        return points.select(keep)


class Watching:
    """Follows subscribers' batches for as many streams as there are."""

    def __init__(self, reader: MetricReader, gate: StoreGate, times: WatchTimes, encode: Encode) -> None:
        self._reader = reader
        self._gate = gate
        self._times = times
        self._encode = encode

    def follow(
        self, query: WatchQuery, subscriber: PointSubscriber, remaining_seconds: Callable[[], float]
    ) -> Iterator[Step[Mark]]:
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
        yield from streaming.follow(subscriber, cursor, self._times, lambda batch: self._bodies(query, batch), str)

    def _bodies(self, query: WatchQuery, batch: PointBatch) -> tuple[bytes, ...]:
        """Return a batch's messages; streams that want everything share them."""
        if query.everything:
            return batch.encoded(lambda points: tuple(self._encode(points)))
        return tuple(self._encode(query.choose(batch.content)))
