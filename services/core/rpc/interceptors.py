"""What happens around every call: callers are admitted, errors become statuses, calls are counted, streams limited.

These wrap a method's handler once, when it is registered; grpc's own interceptors would build a wrapper for every call,
and an answer from memory costs less than that. A handler takes the request's bytes and returns the response's: whether
they are parsed is its own business.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeAlias, TypeVar

import grpc

from services.core.errors import DeadlineTooShortError, TooManyStreamsError
from services.core.rpc.metrics import RpcMetrics
from services.core.rpc.status import to_grpc_status

_log = logging.getLogger("tickwatch.rpc")

UNARY = "unary"
SERVER_STREAM = "server_stream"
BIDI_STREAM = "bidi_stream"

Context = grpc.ServicerContext
UnaryBehavior = Callable[[bytes, Context], bytes]
StreamBehavior = Callable[[bytes, Context], Iterator[bytes]]
Check: TypeAlias = Callable[[grpc.ServicerContext], str]
"""Returns who calls, by name, or raises where he may not."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs only

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class StreamThreads(ThreadPoolExecutor):
    """Runs each task in a thread of its own, which ends with it.

    A stream occupies a thread for as long as it is open. In the pool of the unary calls a few streams would starve
    them; in a pool of its own a thread would stay for every stream there has ever been at once. grpc takes only a
    ThreadPoolExecutor here, hence the base class; nothing of it but its interface is used.
    """

    def __init__(self, name: str) -> None:
        super().__init__(max_workers=1)
        self._name = name
        self._guard = threading.Lock()
        self._running: set[threading.Thread] = set()
        self._number = 0

    def submit(
        self, fn: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        future: Future[_Result] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
                future.set_exception(error)
            finally:
                with self._guard:
                    self._running.discard(threading.current_thread())

        with self._guard:
            self._number += 1
            thread = threading.Thread(target=run, name=f"{self._name}-{self._number}", daemon=True)
            self._running.add(thread)
        thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's
        with self._guard:
            running = list(self._running)
        for thread in running if wait else ():
            thread.join()
        super().shutdown(wait=wait, cancel_futures=cancel_futures)


class StreamLimit:
    """How many streams of one kind there may be at once, in all and, where that is limited, to one client."""

    def __init__(self, limit: int, per_client: int | None = None) -> None:
        self.limit = limit
        self.per_client = per_client
        self._guard = threading.Lock()
        self._open = 0
        self._clients: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many there are."""
        return self._open

    @contextlib.contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """Count a stream of a client for as long as the context lasts; raises TooManyStreamsError."""
        with self._guard:
            if self._open >= self.limit:
                raise TooManyStreamsError(self.limit)
            if self.per_client is not None and self._clients[client] >= self.per_client:
                raise TooManyStreamsError(self.per_client, client)
            self._open += 1
            self._clients[client] += 1
        try:
            yield
        finally:
            with self._guard:
                self._open -= 1
                self._clients[client] -= 1
                if not self._clients[client]:
                    del self._clients[client]


class Meter:
    """Counts, times and logs the calls of one method; `kind` is grpc_type's value."""

    def __init__(self, metrics: RpcMetrics, service: str, method: str, kind: str = UNARY) -> None:
        self.path = f"/{service}/{method}"
        self.tally = metrics.tally(kind, service, method)

    def began(self) -> float:
        """Note that a call begins and return when, for `ended`."""
        self.tally.begin()
        return time.perf_counter()

    def ended(self, code: str, began: float, context: Context) -> None:
        """Note the end of a call with a status code's name."""
        seconds = time.perf_counter() - began
        self.tally.end(code, seconds)
        if _log.isEnabledFor(logging.DEBUG):
            facts = {"path": self.path, "code": code, "seconds": round(seconds, 6), "peer": context.peer()}
            _log.debug("%s %s %.1f ms", self.path, code, seconds * 1000, extra=facts)


def require_time(context: Context) -> None:
    """Refuse a call whose deadline has passed while it waited; raises DeadlineTooShortError.

    For handlers to call before work that takes longer than finding out.
    """
    if context.time_remaining() == 0:
        raise DeadlineTooShortError("the deadline passed while the call waited for its turn")


def guard(handler: Handler, check_of: Callable[[str], Check]) -> None:
    """Have a method's callers checked, by what `check_of` returns for its path, before anything else is done."""
    guarded: Any = handler.unary_unary or handler.unary_stream or handler.stream_stream
    guarded.check = check_of(guarded.path)


def client_of(context: Context) -> str:
    """Return by what a client without a name is told from others: its address without the port."""
    peer = context.peer()
    return peer.rpartition(":")[0] or peer


def unary(behavior: UnaryBehavior, meter: Meter, pool: ThreadPoolExecutor | None = None) -> Handler:
    """Return a unary method's handler; `pool` runs it in place of the server's own."""
    return grpc.unary_unary_rpc_method_handler(_Unary(behavior, meter, pool))


def stream(behavior: StreamBehavior, meter: Meter, limit: StreamLimit, threads: StreamThreads) -> Handler:
    """Return a server-streaming method's handler, run in `threads` as long as `limit` allows."""
    return grpc.unary_stream_rpc_method_handler(_Stream(behavior, meter, limit, threads))


def bidirectional(
    behavior: Callable[[Iterator[bytes], Context], Iterator[bytes]],
    meter: Meter,
    limit: StreamLimit,
    threads: StreamThreads,
) -> Handler:
    """Return the handler of a method that streams both ways."""
    return grpc.stream_stream_rpc_method_handler(_Stream(behavior, meter, limit, threads))


class _Unary:
    def __init__(self, behavior: UnaryBehavior, meter: Meter, pool: ThreadPoolExecutor | None) -> None:
        self._behavior = behavior
        self._meter = meter
        self.path = meter.path
        self.check: Check | None = None
        self.experimental_thread_pool = pool

    def __call__(self, request: bytes, context: Context) -> bytes:
        began = self._meter.began()
        try:
            if self.check is not None:
                self.check(context)
            answer = self._behavior(request, context)
        except Exception as error:
            status = to_grpc_status(error)
            self._meter.ended(status.code.name, began, context)
            context.abort_with_status(status)
            raise
        self._meter.ended("OK", began, context)
        return answer


class _Stream:
    def __init__(
        self,
        behavior: Callable[[Any, Context], Iterator[bytes]],
        meter: Meter,
        limit: StreamLimit,
        threads: StreamThreads,
    ) -> None:
        self._behavior = behavior
        self._meter = meter
        self._limit = limit
        self.path = meter.path
        self.check: Check | None = None
        self.experimental_thread_pool = threads

    def __call__(self, request: Any, context: Context) -> Iterator[bytes]:  # noqa: ANN401 - bytes, or an iterator of them
        began = self._meter.began()
        code = "CANCELLED"  # what it stays when the caller leaves and the generator is closed
        try:
            client = client_of(context) if self.check is None else self.check(context)
            with self._limit.admitted(client):
                self._meter.tally.stream_opened(1)
                try:
                    yield from self._behavior(request, context)
                finally:
                    self._meter.tally.stream_opened(-1)
            code = "OK"
        except Exception as error:
            status = to_grpc_status(error)
            code = status.code.name
            context.abort_with_status(status)
            raise
        finally:
            self._meter.ended(code, began, context)
