"""A reader's way into a relay: from where he has been, or from how things stand, and then on with everybody.

A subscription owns its place; the registry owns the relays, starts each with its first reader and stops it after the
last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

import tickwatch

from services.core.errors import SlowSubscriberError, TooManyStreamsError
from services.gateway.events import Frame, frame
from services.gateway.relaying import HEARTBEAT_SECONDS, LINGER_SECONDS, Relay
from services.gateway.sources import Source, told
from services.gateway.upstream import Upstream

_MOST_CATCHING_UP = 32
"""How many readers may have a stream of their own at once; others wait for their turn."""

_TURN_SECONDS = 5.0
"""After so long without a turn a reader is told to come back."""

_LONGEST_CATCHING_UP_SECONDS = 60.0
"""A reader who needs longer gives his turn away, and comes back with the cursor that he has got to."""


class Subscription:
    """One reader of a relay."""

    def __init__(self, relays: Relays, relay: Relay, source: Source) -> None:
        self._relays = relays
        self._relay = relay
        self._source = source
        self._lead: list[Frame] = []
        self._place: int | None = None
        self._cursor = ""
        self._own_until = 0.0
        self._own: AsyncGenerator[Any, None] | None = None

    async def begin(self, cursor: str | None, *, insisting: bool) -> None:
        """Find the place to begin at; raises tickwatch.Error for what cannot be begun.

        Where a cursor resumes nothing any more, a reader who insists is refused; any other is told so by `reset` and
        begins anew, because a browser can do nothing about the cursor that it sends.
        """
        await self._relay.began()
        if cursor and await self._resume(cursor, insisting=insisting):
            return
        if not self._source.begins_with_snapshot:
            self._place = self._relay.end
            self._lead.append(frame("bookmark", b"{}", self._relay.cursor))
        elif snapshot := self._relay.snapshot:
            self._place = snapshot[0]
            self._lead.append(snapshot[1])
        else:
            await self._read_own(None)

    async def _resume(self, cursor: str, *, insisting: bool) -> bool:
        """Go on behind a cursor; return False, and tell the reader, where that is not possible."""
        self._place = self._relay.place_after(cursor)
        if self._place is not None:
            return True
        try:
            await self._read_own(cursor)
        except (tickwatch.CursorExpiredError, tickwatch.InvalidInputError) as error:
            if insisting or error.reason not in ("CURSOR_EXPIRED", "INVALID_CURSOR"):
                raise
            self._lead.append(told("reset", error))
            return False
        return True

    async def _read_own(self, cursor: str | None) -> None:
        """Open a stream of one's own and read its first item, which may already be the way into the relay."""
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._relays.catching_up.acquire()
        except TimeoutError:
            raise TooManyStreamsError(_MOST_CATCHING_UP) from None
        self._own_until = time.monotonic() + _LONGEST_CATCHING_UP_SECONDS
        self._own = self._source.open(self._relays.upstream, cursor, lambda _error, _pause: None)
        try:
            await self._take_own()
        except BaseException:
            await self._close_own()
            raise

    async def _take_own(self) -> None:
        assert self._own is not None  # noqa: S101  # as called
        if time.monotonic() > self._own_until:
            raise SlowSubscriberError(self._cursor)
        item = await anext(self._own)
        made = self._source.frame(item)
        self._lead.append(made)
        self._place = self._relay.place_after(made.cursor)
        if self._place is not None:
            if isinstance(item, tickwatch.Snapshot):
                self._relay.snapshot = (self._place, made)
            await self._close_own()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield frames until the relay ends or the reader has fallen behind it; the last frame then says why."""
        try:
            while self._place is None or self._lead:
                if self._lead:
                    lead, self._lead = self._lead, []
                    self._cursor = lead[-1].cursor
                    yield b"".join(made.body for made in lead)
                else:
                    await self._take_own()
            while True:
                bodies, self._place = self._relay.take(self._place, self._cursor)
                self._cursor = self._relay.cursor
                if bodies:
                    yield bodies[0] if len(bodies) == 1 else b"".join(bodies)
                elif self._relay.ended:
                    break
                else:
                    await self._relay.news()
            if self._relay.error is not None:
                yield told("ended", self._relay.error).body
        except (tickwatch.Error, SlowSubscriberError) as error:
            yield told("ended", error).body

    async def close(self) -> None:
        """Leave the relay."""
        await self._close_own()
        self._relays.leave(self._relay)

    async def _close_own(self) -> None:
        if self._own is not None:
            own, self._own = self._own, None
            self._relays.catching_up.release()
            await own.aclose()


class Relays:
    """The relays of a process, one for each source that is being read."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        on_news: Callable[[], None],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self.upstream = upstream
        self.catching_up = asyncio.Semaphore(_MOST_CATCHING_UP)
        self._on_news = on_news
        self._heartbeat_seconds = heartbeat_seconds
        self._linger_seconds = linger_seconds
        self._relays: dict[Source, Relay] = {}
        self._stops: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._relays)

    async def subscribe(self, source: Source, cursor: str | None, *, insisting: bool = False) -> Subscription:
        """Return a subscription that has begun, to be closed; see `Subscription.begin`."""
        relay = self._relays.get(source)
        if relay is None or relay.ended:
            relay = self._relays[source] = Relay(
                source, self.upstream, on_news=self._on_news, heartbeat_seconds=self._heartbeat_seconds
            )
        relay.readers += 1
        subscription = Subscription(self, relay, source)
        try:
            await subscription.begin(cursor, insisting=insisting)
        except BaseException:
            await subscription.close()
            raise
        return subscription

    def leave(self, relay: Relay) -> None:
        """Count a reader out; the relay is stopped if no other comes soon."""
        relay.readers -= 1
        if relay.readers == 0:
            task = asyncio.create_task(self._stop_later(relay), name="tickwatch-relay-stop")
            self._stops.add(task)
            task.add_done_callback(self._stops.discard)

    async def _stop_later(self, relay: Relay) -> None:
        if not relay.ended:
            await asyncio.sleep(self._linger_seconds)
        if relay.readers == 0:
            await self._stop(relay)

    async def _stop(self, relay: Relay) -> None:
        for source, known in list(self._relays.items()):
            if known is relay:
                del self._relays[source]
        await relay.stop()

    async def close(self) -> None:
        """Stop every relay."""
        for task in list(self._stops):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for relay in list(self._relays.values()):
            await self._stop(relay)
