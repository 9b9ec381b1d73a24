"""What every client of a service is: channels opened when needed, a deadline, and errors that say what to do.

It knows no service's methods.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import grpc

from tickwatch.channels import Options, Service, open_channel
from tickwatch.credentials import CredentialReader, Credentials, Metadata
from tickwatch.errors import InvalidInputError, from_rpc_error

_TResponse = TypeVar("_TResponse")
_TStub = TypeVar("_TStub")
_TResponse_co = TypeVar("_TResponse_co", covariant=True)
_TRequest_contra = TypeVar("_TRequest_contra", contravariant=True)


class _Unary(Protocol[_TRequest_contra, _TResponse_co]):
    def __call__(
        self, request: _TRequest_contra, *, timeout: float, metadata: Metadata
    ) -> Awaitable[_TResponse_co]: ...


class _Streaming(Protocol[_TRequest_contra, _TResponse_co]):
    def __call__(self, request: _TRequest_contra, *, metadata: Metadata) -> _TResponse_co: ...


class _Line:
    """A channel, and how many calls it has: one whose certificates are replaced ends with its last call."""

    def __init__(self, channel: grpc.aio.Channel, stub: Any, stamp: Hashable) -> None:  # noqa: ANN401 - of any service
        self.channel = channel
        self.stub = stub
        self.stamp = stamp
        self.calls = 0


class Connection:
    """The part of a client that is the same for every service; see the clients for its arguments."""

    def __init__(
        self,
        service: Service,
        target: str,
        timeout_seconds: float,
        credentials: Credentials | None,
        options: Options,
    ) -> None:
        self._service = service
        self._target = target
        self._timeout_seconds = timeout_seconds
        self._credentials = CredentialReader(credentials or Credentials())
        self._options = tuple(options)
        self._lines: dict[bool, _Line] = {}
        self._retired: set[_Line] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def on_behalf(self, token: str) -> Self:
        """Return this client as it asks for somebody else, who shows this bearer token instead of its own.

        Both have the same connections, and both are closed when either is. Raises InvalidInputError for what cannot be
        a token.
        """
        other = copy.copy(self)
        other._credentials = self._credentials.with_token(token)  # noqa: SLF001 - it is of this class
        return other

    async def close(self) -> None:
        """Close the connections and end open watches; closing twice is fine."""
        self._closed.set()
        lines = [*self._lines.values(), *self._retired]
        self._lines.clear()
        self._retired.clear()
        for line in lines:
            await line.channel.close()
        await asyncio.gather(*self._closing)

    def _stub_of(self, kind: Callable[[grpc.aio.Channel], _TStub], *, streaming: bool = False) -> _TStub:
        """Return the stub for streams or the one for the rest; its channel is opened when it is first needed.

        Where the files of the credentials have changed it is that of another channel, and the one before goes on with
        the calls it has. Files that are no good raise InvalidInputError at first, and later leave the channel what it
        is. `kind` is the same at every call.
        """
        if self._closed.is_set():
            raise RuntimeError(f"this tickwatch.{type(self).__name__} is closed")
        line, stamp = self._lines.get(streaming), self._credentials.stamp()
        if line is None or line.stamp != stamp:
            line = self._opened(kind, line, stamp, streaming=streaming)
        stub: _TStub = line.stub
        return stub

    def _opened(
        self, kind: Callable[[grpc.aio.Channel], object], before: _Line | None, stamp: Hashable, *, streaming: bool
    ) -> _Line:
        """Return a new line, or the one before where what the credentials name is no good now."""
        try:
            credentials = self._credentials.channel()
        except InvalidInputError:
            if before is None:
                raise
            return before
        channel = open_channel(self._service, self._target, credentials, self._options, streaming=streaming)
        line = self._lines[streaming] = _Line(channel, kind(channel), stamp)
        if before is not None:
            self._retired.add(before)
            self._close_idle(before)
        return line

    async def _call(self, method: _Unary[_TRequest_contra, _TResponse_co], request: _TRequest_contra) -> _TResponse_co:
        try:
            call = method(request, timeout=self._timeout_seconds, metadata=self._credentials.metadata())
            self._hold(call, streaming=False)
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def _open_stream(self, method: _Streaming[_TRequest_contra, _TResponse], request: _TRequest_contra) -> _TResponse:
        """Open a stream by a method of a stub just fetched."""
        call = method(request, metadata=self._credentials.metadata())
        self._hold(call, streaming=True)
        return call

    def _hold(self, call: Any, *, streaming: bool) -> None:  # noqa: ANN401 - a call of any kind
        """Keep the channel that has just begun a call open until the call ends."""
        line = self._lines[streaming]
        line.calls += 1

        def ended(_call: object) -> None:
            line.calls -= 1
            self._close_idle(line)

        call.add_done_callback(ended)

    def _close_idle(self, line: _Line) -> None:
        if line in self._retired and not line.calls:
            self._retired.discard(line)
            closing = asyncio.get_running_loop().create_task(line.channel.close(), name="tickwatch-closing")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
