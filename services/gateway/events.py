"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): frames, and streams of them.

A stream ends when it has no more to say, when its reader is gone, or when the gateway stops; always between two frames.
It knows nothing of what the frames are about.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import NamedTuple, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.core.errors import NotReadyError, TooManyStreamsError
from services.gateway.http_protocol import abort

_PARTING_SECONDS = 1.0
STALLED_SECONDS = 60.0
"""A reader who takes nothing for so long, with his connection's buffers full, is given up."""

PREAMBLE = b"retry: 2000\n\n"
"""A browser whose stream has ended comes back after two seconds."""

HEARTBEAT = b": still here\n\n"
"""A comment: it keeps proxies from closing a quiet connection, and no reader sees it."""


class Frame(NamedTuple):
    """One event, encoded once for everybody who reads it."""

    cursor: str
    """Where a reader stands who has had it."""
    body: bytes


def frame(kind: str, data: bytes, cursor: str | None) -> Frame:
    """Return an event with JSON as its data; without a cursor it leaves the reader's Last-Event-ID as it was."""
    line = b"" if cursor is None else f"id: {cursor}\n".encode()
    return Frame(cursor or "", b"event: %s\n%sdata: %s\n\n" % (kind.encode(), line, data))


class Source(Protocol):
    """Where a stream's frames come from."""

    def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield frames until there are no more."""

    async def close(self) -> None:
        """Let go of what is held; called once, whatever happened."""


class EventStreams:
    """The open streams of a process: so many at most, and all of them end when it stops."""

    def __init__(self, most: int, stalled_seconds: float = STALLED_SECONDS) -> None:
        self._most = most
        self.stalled_seconds = stalled_seconds
        self._ends: set[asyncio.Future[None]] = set()
        self._stopping = self._closed = False

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def stopping(self) -> bool:
        """Whether the gateway is about to stop."""
        return self._stopping

    def require_room(self) -> None:
        """Raise TooManyStreamsError where there are as many streams as there may be, NotReadyError near the end."""
        if self._stopping:
            raise NotReadyError("the gateway is stopping")
        if len(self._ends) >= self._most:
            raise TooManyStreamsError(self._most)

    @contextlib.contextmanager
    def opened(self, end: asyncio.Future[None]) -> Iterator[None]:
        """Count a stream while the context lasts; `end` is set when it has to end."""
        self._ends.add(end)
        if self._closed:
            end.set_result(None)
        try:
            yield
        finally:
            self._ends.discard(end)

    def refuse(self) -> None:
        """Take no new streams: the gateway is about to stop."""
        self._stopping = True

    def close(self) -> None:
        """End every stream."""
        self._stopping = self._closed = True
        for end in self._ends:
            if not end.done():
                end.set_result(None)


class EventStream(Response):
    """A response that goes on for as long as there are frames and somebody to read them."""

    media_type = "text/event-stream"

    def __init__(self, source: Source, streams: EventStreams) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames to the end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": PREAMBLE, "more_body": True})
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        listening = asyncio.create_task(_until_gone(receive, end))
        sending = asyncio.create_task(self._send(send))
        try:
            with self._streams.opened(end):
                await asyncio.wait((end, sending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, sending):
                task.cancel()
            await asyncio.wait((listening, sending))
            await self._source.close()
        if not sending.cancelled():
            if isinstance(sending.exception(), TimeoutError):
                abort(scope)
                await asyncio.sleep(0)  # the server hears of it
                return
            sending.result()
        # To a reader who is gone this says nothing; one who does not read is not waited for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._source.frames()) as frames:
            async for body in frames:
                async with asyncio.timeout(self._streams.stalled_seconds):
                    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive, end: asyncio.Future[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not end.done():
        end.set_result(None)
