"""One stream of a service, read by everybody who asks for the same: the service's streams and threads are few.

A relay keeps the last frames in a ring, and each reader only its place in it, so that a reader costs no memory beyond
his connection; one who falls behind the ring is told so, and resumes by his cursor. A reader who comes with a cursor
that the ring does not have reads a stream of his own until that has reached a frame of the ring. Cursors are compared
and never understood.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import aclosing

import tickwatch

from services.core.errors import NotReadyError, SlowSubscriberError
from services.gateway.events import HEARTBEAT, Frame
from services.gateway.sources import Item, Source, told
from services.gateway.upstream import Upstream

HEARTBEAT_SECONDS = 15.0
LINGER_SECONDS = 5.0
"""For so long a relay outlives its last reader: browsers that reload come back at once."""

_MOST_FRAMES = 1000
_MOST_BYTES = 4 * 1024 * 1024
_OLDEST_SNAPSHOT_FRAMES = 100

_log = logging.getLogger(__name__)


class Relay:
    """A stream and its ring of frames, numbered from 0."""

    def __init__(
        self,
        source: Source,
        upstream: Upstream,
        *,
        on_news: Callable[[], None],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._source = source
        self._upstream = upstream
        self._on_news = on_news
        self._heartbeat_seconds = heartbeat_seconds
        self._ring: deque[Frame] = deque()
        self._bytes = 0
        self._first = 0
        self._floor: str | None = None
        self._changed = asyncio.Event()
        self._began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._snapshot: tuple[int, Frame] | None = None
        self.readers = 0
        self.ended = False
        self.error: BaseException | None = None
        """What it has ended with; None where it was stopped."""
        self._following = asyncio.create_task(self._follow(), name="tickwatch-relay")
        self._beating = asyncio.create_task(self._beat(), name="tickwatch-relay-heartbeat")

    @property
    def end(self) -> int:
        """The number of the next frame."""
        return self._first + len(self._ring)

    @property
    def cursor(self) -> str:
        """Where a reader stands who has had every frame."""
        return self._ring[-1].cursor if self._ring else self._floor or ""

    @property
    def snapshot(self) -> tuple[int, Frame] | None:
        """A snapshot and the number of the frame that follows it; None where that is too long ago."""
        if self._snapshot is None or self._snapshot[0] < max(self._first, self.end - _OLDEST_SNAPSHOT_FRAMES):
            return None
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: tuple[int, Frame]) -> None:
        self._snapshot = snapshot

    async def began(self) -> None:
        """Return once the first frame has come; raises the tickwatch.Error that came instead."""
        await asyncio.shield(self._began)

    def place_after(self, cursor: str) -> int | None:
        """Return the number of the frame after the one with this cursor; None where the ring cannot tell.

        Several frames may have one cursor: all but the last of a large slot have that of the frame before them. Whoever
        has had the cursor may have had only the first of them.
        """
        if cursor == self._floor:
            return self._first
        for place, known in enumerate(self._ring):
            if known.cursor == cursor:
                return self._first + place + 1
        return None

    def take(self, place: int, cursor: str) -> tuple[list[bytes], int]:
        """Return the frames from this number on, and the number of the next.

        Raises SlowSubscriberError, with the cursor of who asks, where they are not kept any more.
        """
        if place < self._first:
            raise SlowSubscriberError(cursor)
        taken = [self._ring[index].body for index in range(place - self._first, len(self._ring))]
        return taken, self.end

    async def news(self) -> None:
        """Return when there is another frame, or there will be none."""
        if not self.ended:
            await self._changed.wait()

    async def stop(self) -> None:
        """End it."""
        self._following.cancel()
        self._finish(None)
        await asyncio.wait((self._following, self._beating))

    async def _follow(self) -> None:
        """Follow the source; anew, after telling the readers, where it cannot go on without a gap."""
        anew = True
        while anew:
            anew = False
            try:
                async with aclosing(self._source.open(self._upstream, None, self._interrupted)) as items:
                    async for item in items:
                        self._publish_item(item)
            except tickwatch.CursorExpiredError as error:
                anew = self._began.done()
                if anew:
                    self._publish(told("reset", error))
                else:
                    self._finish(error)
            except tickwatch.Error as error:  # the watch resumes by itself from whatever passes
                self._finish(error)
            except Exception as error:  # noqa: BLE001  # whatever it is, its readers are told
                _log.exception("a relay failed")
                self._finish(error)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            if self._began.done():
                self._publish(Frame(self.cursor, HEARTBEAT))

    def _publish_item(self, item: Item) -> None:
        made = self._source.frame(item)
        if isinstance(item, tickwatch.Event) or (isinstance(item, tickwatch.PointBatch) and len(item)):
            self._on_news()
        self._publish(made)
        if isinstance(item, tickwatch.Snapshot):
            self._snapshot = (self.end, made)
        if not self._began.done():
            self._began.set_result(None)

    def _interrupted(self, error: tickwatch.Error, _pause_seconds: float) -> None:
        if self._began.done():
            self._publish(Frame(self.cursor, told("interrupted", error).body))

    def _publish(self, made: Frame) -> None:
        self._ring.append(made)
        self._bytes += len(made.body)
        while len(self._ring) > 1 and (len(self._ring) > _MOST_FRAMES or self._bytes > _MOST_BYTES):
            gone = self._ring.popleft()
            self._first += 1
            self._bytes -= len(gone.body)
            self._floor = gone.cursor
        self._wake()

    def _finish(self, error: BaseException | None) -> None:
        self.ended = True
        self.error = self.error or error
        self._beating.cancel()
        if not self._began.done():
            self._began.set_exception(error or NotReadyError("the gateway is stopping"))
            self._began.exception()  # there may be nobody left to hear of it
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
