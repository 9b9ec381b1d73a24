"""What every client of a service is: lazily opened channels, a deadline, and errors that say what to do.

It knows no service's methods.
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc

from tickwatch.channels import Options, Service, open_channel
from tickwatch.errors import from_rpc_error

_TResponse_co = TypeVar("_TResponse_co", covariant=True)
_TRequest_contra = TypeVar("_TRequest_contra", contravariant=True)


class _Unary(Protocol[_TRequest_contra, _TResponse_co]):
    def __call__(self, request: _TRequest_contra, *, timeout: float) -> Awaitable[_TResponse_co]: ...


class Connection:
    """The part of a client that is the same for every service; see the clients for its arguments."""

    def __init__(
        self,
        service: Service,
        target: str,
        timeout_seconds: float,
        credentials: grpc.ChannelCredentials | None,
        options: Options,
    ) -> None:
        self._service = service
        self._target = target
        self._timeout_seconds = timeout_seconds
        self._credentials = credentials
        self._options = tuple(options)
        self._channels: dict[bool, grpc.aio.Channel] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and end open watches; closing twice is fine."""
        self._closed = True
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()

    def _channel(self, *, streaming: bool = False) -> grpc.aio.Channel:
        """Return the channel for streams or the one for the rest; each is opened when it is first needed."""
        if self._closed:
            raise RuntimeError(f"this tickwatch.{type(self).__name__} is closed")
        if streaming not in self._channels:
            self._channels[streaming] = open_channel(
                self._service, self._target, self._credentials, self._options, streaming=streaming
            )
        return self._channels[streaming]

    async def _call(self, method: _Unary[_TRequest_contra, _TResponse_co], request: _TRequest_contra) -> _TResponse_co:
        try:
            return await method(request, timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
