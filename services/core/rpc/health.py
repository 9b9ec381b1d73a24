"""The standard health service (grpc.health.v1) for the thread-pool server.

grpcio-health-checking's servicer sends to its watchers while it holds the lock that a watcher's end needs too: one
watcher leaving at the wrong moment stops the thread that serves the whole server. Here one thread sends, and holds no
lock while it does. A watcher costs no thread, because every channel of the published client is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2

from services.core.errors import ServiceUnknownError
from services.core.rpc import interceptors
from services.core.rpc.convert import from_wire_message
from services.core.rpc.interceptors import Context, Handler, Meter
from services.core.rpc.metrics import RpcMetrics
from services.core.rpc.status import to_grpc_status

SERVICE = "grpc.health.v1.Health"

LIVENESS = "liveness"
"""The name under which a server serves for as long as it answers at all, whatever its store does: killing a process
helps against its own faults only."""

_Response = health_pb2.HealthCheckResponse


class Health:
    """The status of every service of a server, of the server as a whole under the name "", and of its `LIVENESS`."""

    def __init__(self, services: Iterable[str]) -> None:
        self._changed = threading.Condition()
        self._serving = dict.fromkeys(("", *services), False)
        self._draining = False
        self._closed = False
        self._watchers: set[_Watcher] = set()
        self._thread: threading.Thread | None = None

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
        if self._thread is not None:
            self._thread.join()

    def check(self, request: bytes, _context: Context) -> bytes:
        """Answer once; raises ServiceUnknownError."""
        name = from_wire_message(health_pb2.HealthCheckRequest, request).service
        if name not in self._names():
            raise ServiceUnknownError(name)
        return bytes(_Response(status=self._status(name)).SerializeToString())

    def list_all(self, _request: bytes, _context: Context) -> bytes:
        """Answer for every service."""
        statuses = {name: _Response(status=self._status(name)) for name in self._names()}
        return bytes(health_pb2.HealthListResponse(statuses=statuses).SerializeToString())

    def watch(self, request: bytes, context: Context, send: Callable[[bytes | None], None]) -> None:
        """Answer now and at every change, until the caller leaves; SERVICE_UNKNOWN for unknown names (gRFC A17)."""
        watcher = _Watcher(from_wire_message(health_pb2.HealthCheckRequest, request).service, send)
        if not context.add_callback(lambda: self._forget(watcher)):
            return
        with self._changed:
            closed = self._closed
            if not closed:
                self._watchers.add(watcher)
                self._changed.notify_all()
        if closed:
            send(None)

    def start(self) -> None:
        """Begin to answer watchers."""
        self._thread = threading.Thread(target=self._tell, name="tickwatch-health", daemon=True)
        self._thread.start()

    @property
    def watcher_count(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    def _tell(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._behind())
                behind, closed, watchers = self._behind(), self._closed, tuple(self._watchers)
            for watcher, status in behind:
                watcher.sent = status
                watcher.send(_Response(status=status).SerializeToString())
            if closed:
                for watcher in watchers:
                    watcher.send(None)
                return

    def _behind(self) -> list[tuple[_Watcher, int]]:
        return [(one, status) for one in self._watchers if (status := self._status(one.service)) != one.sent]

    def _forget(self, watcher: _Watcher) -> None:
        with self._changed:
            self._watchers.discard(watcher)

    def handlers(self, metrics: RpcMetrics, probes: ThreadPoolExecutor) -> dict[str, Handler]:
        """Return the service's methods, run in `probes`, so that no load of calls makes a probe fail."""
        return {
            "Check": interceptors.unary(self.check, Meter(metrics, SERVICE, "Check"), probes),
            "List": interceptors.unary(self.list_all, Meter(metrics, SERVICE, "List"), probes),
            "Watch": grpc.unary_stream_rpc_method_handler(_Watch(self, probes)),
        }

    def _names(self) -> tuple[str, ...]:
        return (*self._serving, LIVENESS)

    def _status(self, name: str) -> int:
        serving = True if name == LIVENESS else self._serving.get(name)
        if serving is None:
            return int(_Response.SERVICE_UNKNOWN)
        return int(_Response.SERVING if serving else _Response.NOT_SERVING)


@dataclass(eq=False, slots=True)
class _Watcher:
    service: str
    send: Callable[[bytes | None], None]
    """Sends a message, or with None ends the stream; does nothing once the caller has left."""
    sent: int | None = None


class _Watch:
    """Tells grpc that the stream goes on after its handler has returned, so that it needs no thread."""

    experimental_non_blocking = True

    def __init__(self, health: Health, probes: ThreadPoolExecutor) -> None:
        self._health = health
        self.experimental_thread_pool = probes

    def __call__(self, request: bytes, context: Context, send: Callable[[bytes | None], None]) -> None:
        try:
            self._health.watch(request, context, send)
        except Exception as error:
            context.abort_with_status(to_grpc_status(error))
            raise
