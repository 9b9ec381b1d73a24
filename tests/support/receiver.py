"""A receiver of webhooks on loopback: a real HTTP server that keeps what it got and misbehaves when told to."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Request:
    """What came."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as JSON."""
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.headers["idempotency-key"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Fault(enum.Enum):
    """How a request is not answered."""

    HANG = enum.auto()
    """Nothing comes, the connection stays open."""
    CUT = enum.auto()
    """The connection is closed without a word."""
    DRIP = enum.auto()
    """The answer's head comes in single bytes that never end."""
    HALF = enum.auto()
    """200, and the connection is closed within the answer's text."""


class ReceiverServer:
    """Listens while its context lasts. Answers in the order of `script`, then 200 without a text.

    `only` answers instead whatever has this key, each time.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: list[Reply | Fault | int] = []
        self.always: Reply | Fault | int = 200
        self.only: dict[str, Reply | Fault | int] = {}
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where events are to be sent."""
        return f"http://127.0.0.1:{self._port}/hooks/token-of-this-hook?channel=alerts"

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of all requests, in the order in which they came."""
        return [request.key for request in self.requests]

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Listen, where it listened before."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse connections, and end those that are open."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    async def received(self, count: int, seconds: float = 20.0) -> Sequence[Request]:
        """Wait until so many requests have come, and return them."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[:count]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                async for request in _requests(reader):
                    async with self._arrived:
                        self.requests.append(request)
                        self._arrived.notify_all()
                    if not await self._answer(request, writer):
                        break
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer; return whether the connection stays open."""
        answer = self.only.get(request.headers.get("idempotency-key", ""))
        if answer is None:
            answer = self.script.pop(0) if self.script else self.always
        match answer:
            case Fault.HANG:
                await asyncio.Event().wait()
            case Fault.CUT:
                return False
            case Fault.DRIP:
                writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            case Fault.HALF:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                await writer.drain()
                return False
            case int():
                answer = Reply(answer)
            case Reply():
                pass
        assert isinstance(answer, Reply)
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        status = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        writer.write(f"{status}{head}\r\n".encode() + answer.body)
        await writer.drain()
        return True


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[Request]:
    """Read the requests of a connection."""
    while line := await reader.readline():
        method, target, _ = line.decode().split()
        headers: dict[str, str] = {}
        while (header := (await reader.readline()).decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        yield Request(method, target, headers, body)
