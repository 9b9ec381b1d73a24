"""The course of one stream of breaches: a snapshot, what the cursor has missed, then what comes, until it is to end.

Served from the log alone, so that any replica continues what another began. Pure of any wire format: whoever composes
it says how messages are encoded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from services.alerter.streams.cursors import cursor_text, read_cursor
from services.alerter.streams.filtering import EventFilter
from services.alerter.streams.following import (
    PAGE_ENTRIES,
    BreachBatch,
    BreachSubscriber,
    Entries,
    LogFollower,
    Reached,
)
from services.core import streaming
from services.core.breach_documents import OpenEpisode, state_from_text
from services.core.breaches import LogEntry, Position
from services.core.errors import CursorExpiredError
from services.core.model import Slot
from services.core.store.base import BreachLog
from services.core.store.gate import StoreGate
from services.core.streaming import WatchTimes


@dataclass(frozen=True, slots=True)
class BreachQuery:
    """Which events; without a cursor from now on."""

    wanted: EventFilter
    cursor: str = ""


class Encoder(Protocol):
    """How messages are written; `evaluated` is the first slot that may not have been evaluated yet."""

    def snapshot(self, episodes: Sequence[OpenEpisode], evaluated: Slot, cursor: str) -> bytes:
        """Return the first message."""

    def event(self, entry: LogEntry, cursor: str) -> bytes:
        """Return an event's message."""

    def bookmark(self, evaluated: Slot, cursor: str) -> bytes:
        """Return a sign of life."""


class BreachStreams:
    """Follows subscribers' batches for as many streams as there are."""

    def __init__(
        self, log: BreachLog, follower: LogFollower, gate: StoreGate, times: WatchTimes, encoder: Encoder
    ) -> None:
        self._log = log
        self._follower = follower
        self._gate = gate
        self._times = times
        self._encoder = encoder

    def follow(
        self, query: BreachQuery, subscriber: BreachSubscriber, remaining_seconds: Callable[[], float]
    ) -> Iterator[bytes]:
        """Yield a stream's messages: a snapshot at once, at last a bookmark.

        No entry comes twice in a stream, and none is missing between its cursor and its end. Raises InvalidCursorError
        and CursorExpiredError for a cursor that cannot be continued, and SlowSubscriberError with the last cursor.
        """
        start, wanted = subscriber.start, query.wanted
        if not query.cursor:
            yield self._snapshot(wanted, start, frozenset(), start.cursor, start.next_slot)
        else:
            start = yield from self._resume(query, start, remaining_seconds)
        steps = streaming.follow(
            subscriber,
            start,
            self._times,
            lambda batch: self._messages(wanted, batch, start.position),
            lambda place: max(place, start, key=_position).cursor,
        )
        for messages, _, after in steps:
            place = max(after, start, key=_position)
            yield from messages or (self._encoder.bookmark(place.next_slot, place.cursor),)

    def _resume(
        self, query: BreachQuery, mark: Reached, remaining_seconds: Callable[[], float]
    ) -> Generator[bytes, None, Reached]:
        """Yield the snapshot at the cursor, what was missed since, and a bookmark; return the place reached by that."""
        log_id, position = read_cursor(query.cursor)
        end = mark
        if log_id == mark.log_id and position > mark.position:
            # Another replica, which had read the log a moment later than this one, may have sent it.
            end = self._gate.read(lambda: self._present(mark), remaining_seconds())
        if log_id != end.log_id or position > end.position:
            problem = "the cursor is ahead of the log's end" if log_id == end.log_id else "the cursor is of another log"
            raise self._gate.read(lambda: self._expired(problem, mark.log_id), remaining_seconds())
        missed = self._missed(position, end, remaining_seconds)
        to_come = frozenset(
            entry.event.episode_id
            for page in missed()
            for entry in page
            if entry.event.opening and query.wanted.passes(entry.event)
        )
        evaluated = end.next_slot if position == end.position else min(position.slot, end.next_slot)
        yield self._snapshot(query.wanted, end, to_come, query.cursor, evaluated)
        for page in missed():
            for entry in page:
                if query.wanted.passes(entry.event):
                    yield self._encoder.event(entry, cursor_text(log_id, entry.after))
        yield self._encoder.bookmark(end.next_slot, end.cursor)
        return end

    def _missed(
        self, position: Position, end: Reached, remaining_seconds: Callable[[], float]
    ) -> Callable[[], Iterable[Entries]]:
        """Return what walks the entries of [position, end) by pages, from memory if it reaches back so far."""
        recent = self._follower.recent(position, end)
        if recent is not None:
            return lambda: (recent,)

        def pages() -> Iterator[Entries]:
            here = position
            while here < end.position:
                page = self._gate.read(functools.partial(self._page, here, end.log_id), remaining_seconds())
                yield tuple(entry for entry in page if entry.position < end.position)
                if len(page) < PAGE_ENTRIES:
                    return
                here = page[-1].after

        return pages

    def _page(self, position: Position, log_id: str) -> Entries:
        try:
            return self._log.read_after(position, PAGE_ENTRIES)
        except CursorExpiredError as error:
            raise self._expired("the cursor is older than the log", log_id) from error

    def _present(self, mark: Reached) -> Reached:
        checkpoint = self._log.checkpoint()
        if checkpoint is None:
            return mark
        return Reached(mark.log_id, checkpoint.end, state_from_text(checkpoint.state))

    def _expired(self, problem: str, log_id: str) -> CursorExpiredError:
        return CursorExpiredError(problem, cursor_text(log_id, self._log.earliest()))

    def _snapshot(
        self, wanted: EventFilter, place: Reached, to_come: AbstractSet[str], cursor: str, evaluated: Slot
    ) -> bytes:
        episodes = [
            episode
            for episode in place.state.episodes
            if wanted.concerns(episode.opening) and episode.opening.episode_id not in to_come
        ]
        return self._encoder.snapshot(episodes, evaluated, cursor)

    def _messages(self, wanted: EventFilter, batch: BreachBatch, start: Position) -> tuple[bytes, ...]:
        """Return what of a batch a stream sends; all streams share the encoded events."""
        log_id = batch.after.log_id
        encoded = batch.encoded(
            lambda entries: tuple(self._encoder.event(entry, cursor_text(log_id, entry.after)) for entry in entries)
        )
        return tuple(
            message
            for entry, message in zip(batch.content, encoded, strict=True)
            if entry.position >= start and wanted.passes(entry.event)
        )


def _position(place: Reached) -> Position:
    return place.position
