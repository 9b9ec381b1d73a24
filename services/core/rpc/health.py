"""The standard health service (grpc.health.v1) for the thread-pool server.

grpcio-health-checking's servicer sends to its watchers while it holds the lock that a watcher's end needs too: one
watcher leaving at the wrong moment stops the thread that serves the whole server. Here a watcher is a stream like any
other, with a thread and a limit of its own, and nobody sends under a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from grpc_health.v1 import health_pb2

from services.core.errors import ServiceUnknownError
from services.core.rpc import interceptors
from services.core.rpc.convert import from_wire_message
from services.core.rpc.interceptors import SERVER_STREAM, Context, Handler, Meter, StreamLimit, StreamThreads
from services.core.telemetry import RpcMetrics

SERVICE = "grpc.health.v1.Health"

_Response = health_pb2.HealthCheckResponse


class Health:
    """The status of every service of a server, and of the server as a whole under the name ""."""

    def __init__(self, services: Iterable[str]) -> None:
        self._changed = threading.Condition()
        self._serving = dict.fromkeys(("", *services), False)
        self._draining = False
        self._closed = False

    def set(self, serving: bool) -> None:  # noqa: FBT001 - it is the status itself
        """Say of all services whether they serve; ignored once draining."""
        with self._changed:
            if self._draining or set(self._serving.values()) == {serving}:
                return
            self._serving = dict.fromkeys(self._serving, serving)
            self._changed.notify_all()

    @property
    def serving(self) -> bool:
        """Whether the server as a whole serves."""
        return self._serving[""]

    def drain(self) -> None:
        """Say NOT_SERVING for good."""
        self.set(serving=False)
        self._draining = True

    def close(self) -> None:
        """End all watchers, so that they do not hold up the server's end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def check(self, request: bytes, _context: Context) -> bytes:
        """Answer once; raises ServiceUnknownError."""
        name = from_wire_message(health_pb2.HealthCheckRequest, request).service
        if name not in self._serving:
            raise ServiceUnknownError(name)
        return bytes(_Response(status=self._status(name)).SerializeToString())

    def list(self, _request: bytes, _context: Context) -> bytes:
        """Answer for every service."""
        statuses = {name: _Response(status=self._status(name)) for name in self._serving}
        return bytes(health_pb2.HealthListResponse(statuses=statuses).SerializeToString())

    def watch(self, request: bytes, context: Context) -> Iterator[bytes]:
        """Answer now and at every change, until the caller leaves; SERVICE_UNKNOWN for unknown names (gRFC A17)."""
        name = from_wire_message(health_pb2.HealthCheckRequest, request).service
        context.add_callback(self._wake)
        sent: int | None = None
        while context.is_active():
            if (status := self._status(name)) != sent:
                yield _Response(status=status).SerializeToString()
                sent = status
            with self._changed:
                if self._closed:
                    return
                self._changed.wait_for(
                    lambda: self._closed or not context.is_active() or self._status(name) != sent  # noqa: B023 - at once
                )

    def handlers(
        self, metrics: RpcMetrics, *, probes: ThreadPoolExecutor, threads: StreamThreads
    ) -> dict[str, Handler]:
        """Return the service's methods: unary ones run in `probes`, so that no load of calls makes a probe fail."""
        limit = StreamLimit(256)
        return {
            "Check": interceptors.unary(self.check, Meter(metrics, SERVICE, "Check"), probes),
            "List": interceptors.unary(self.list, Meter(metrics, SERVICE, "List"), probes),
            "Watch": interceptors.stream(self.watch, Meter(metrics, SERVICE, "Watch", SERVER_STREAM), limit, threads),
        }

    def _status(self, name: str) -> int:
        serving = self._serving.get(name)
        if serving is None:
            return int(_Response.SERVICE_UNKNOWN)
        return int(_Response.SERVING if serving else _Response.NOT_SERVING)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
