"""A running role that follows a store and serves what it has read; what it serves, the role knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from services.core.rpc.server import RpcServer


class RunningRole:
    """Where a role answers, whether it is ready, and its end; `end_streams` asks its streams to end with a cursor.

    `first_read` is done once the role has what it needs to answer.
    """

    def __init__(self, rpc: RpcServer, first_read: Future[None], end_streams: Callable[[], None]) -> None:
        self._rpc = rpc
        self._first_read = first_read
        self._end_streams = end_streams
        self._stopped = asyncio.Event()

    @property
    def address(self) -> str:
        """HOST:PORT to connect to."""
        return self._rpc.address

    @property
    def port(self) -> int:
        """The port it listens on, also where the machine has chosen it."""
        return self._rpc.port

    @property
    def health_port(self) -> int | None:
        """The port where health alone answers, in plain text; None where there is none."""
        return self._rpc.health_port

    @property
    def serving(self) -> bool:
        """Whether the health says SERVING."""
        return self._rpc.health.serving

    @property
    def health_watchers(self) -> int:
        """How many watch the health."""
        return self._rpc.health.watcher_count

    async def ready(self) -> None:
        """Return once it can answer; raises StoreRefusedError when the store refuses to be read."""
        await asyncio.shield(asyncio.wrap_future(self._first_read))

    async def wait(self) -> None:
        """Return when it has been drained."""
        await self._stopped.wait()

    async def drain(self) -> None:
        """Stop without losing an accepted call: NOT_SERVING, drain delay, streams end with a cursor, grace."""
        await self._rpc.drain(self._end_streams)
        self._stopped.set()
