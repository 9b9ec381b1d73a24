"""A gRPC server as every role of Tickwatch runs it: thread pool, TLS, access, health, reflection, graceful drain.

The thread-pool server rather than grpc.aio: with a C client it answers from memory at about 1.6 times the rate, and the
stores block anyway. It knows no service: those are added as handlers from `interceptors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import CollectorRegistry

from services.core.clock import Clock
from services.core.errors import InvalidSettingError, MethodUnknownError
from services.core.rpc import health as health_service
from services.core.rpc import interceptors
from services.core.rpc.convert import from_wire_message
from services.core.rpc.health import Health
from services.core.rpc.interceptors import BIDI_STREAM, Context, Handler, Meter, StreamLimit, StreamThreads
from services.core.rpc.metrics import rpc_metrics
from services.core.rpc.serving import Serving
from services.core.rpc.status import to_grpc_status
from services.core.rpc.tls import ServerCertificates
from services.core.telemetry import parse_listen

_log = logging.getLogger(__name__)

LARGEST_REQUEST_BYTES = 256 * 1024
LEAST_PING_INTERVAL_SECONDS = 10
"""How often a client may ping; the published client pings every 30 s, and one that pings more often is sent away."""

CONNECTION_AGE_SECONDS = 450
"""After this long, give or take a tenth, a connection takes no new calls, so that new servers get their share."""

_MOST_REFLECTIONS = 16


def server_options(*, longest_stream_seconds: float, reuse_port: bool) -> list[tuple[str, int]]:
    """Return the channel arguments of a server; a stream may run to its own end on a connection past its age."""
    return [
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_receive_message_length", LARGEST_REQUEST_BYTES),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(LEAST_PING_INTERVAL_SECONDS * 1000)),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_SECONDS * 1000),
        ("grpc.max_connection_age_grace_ms", round(longest_stream_seconds * 1000) + 60_000),
    ]


class RpcServer:
    """A server that is NOT_SERVING until `health` says otherwise.

    Construct, `add_service`, `start`; `drain` ends it gracefully and `close` at once, either may be called twice.
    Raises InvalidSettingError for an address that cannot be listened on and for files that are no good.
    """

    health_port: int | None = None
    """The port where health alone answers, in plain text; None where there is none."""

    def __init__(
        self, serving: Serving, *, services: tuple[str, ...], registry: CollectorRegistry, clock: Clock
    ) -> None:
        protection = serving.protection
        self.metrics = rpc_metrics(registry)
        self.health = Health(services)
        self.threads = StreamThreads("tickwatch-stream")
        self._clock = clock
        self._drain_seconds = serving.drain_seconds
        self._grace_seconds = serving.grace_seconds
        self._pool = ThreadPoolExecutor(serving.max_workers, thread_name_prefix="tickwatch-rpc")
        self._probes = ThreadPoolExecutor(2, thread_name_prefix="tickwatch-probe")
        self._access = protection.access
        self._ending: asyncio.Task[None] | None = None
        self._closed = False
        options = server_options(
            longest_stream_seconds=serving.longest_connection_seconds, reuse_port=serving.reuse_port
        )
        self._server = grpc.server(self._pool, options=options, maximum_concurrent_rpcs=protection.max_calls)
        # A server of its own: neither the limit of calls nor TLS stands between a probe and its answer.
        self._health_server = grpc.server(self._probes, options=options) if protection.health_listen else None
        handlers = self.health.handlers(self.metrics, self._probes)
        try:
            credentials = ServerCertificates(protection.tls).credentials() if protection.tls else None
            self.host, self.port = _listen(self._server, serving.listen, serving.setting("listen"), credentials)
            if self._health_server is not None and protection.health_listen is not None:
                setting = serving.setting("health_listen")
                _, self.health_port = _listen(self._health_server, protection.health_listen, setting)
                self._health_server.add_registered_method_handlers(health_service.SERVICE, handlers)
                self._health_server.add_generic_rpc_handlers([_Unknown()])
        except InvalidSettingError:
            self._close_pools()
            raise
        self.add_service(health_service.SERVICE, handlers)
        if serving.reflection:
            self._add_reflection(services)

    @property
    def address(self) -> str:
        """HOST:PORT to connect to."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - names what is not an address
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def add_service(self, name: str, handlers: Mapping[str, Handler]) -> None:
        """Add a service's methods; before `start`. All but those of health are guarded, where callers are asked for."""
        if self._access is not None and name != health_service.SERVICE:
            for handler in handlers.values():
                interceptors.guard(handler, self._access.check)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, dict(handlers))])
        self._server.add_registered_method_handlers(name, handlers)

    def start(self) -> None:
        """Answer calls."""
        self._server.add_generic_rpc_handlers([_Unknown()])  # asked last
        self.health.start()
        if self._health_server is not None:
            self._health_server.start()
        self._server.start()
        _log.info("listening on %s", self.address, extra={"address": self.address})

    async def drain(self, end_streams: Callable[[], None] = lambda: None) -> None:
        """End gracefully: NOT_SERVING, the drain delay, the streams' end, then no new calls; returns when all is over.

        `end_streams` asks the streams to end with a cursor. The delay lets balancers see the health first: until it is
        over, calls are still taken.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._drain(end_streams), name="tickwatch-drain")
        await asyncio.shield(self._ending)

    async def _drain(self, end_streams: Callable[[], None]) -> None:
        self.health.drain()
        _log.info("draining for %.1f s", self._drain_seconds)
        await self._clock.sleep(self._drain_seconds)
        end_streams()
        self.health.close()
        await asyncio.to_thread(self.close, self._grace_seconds)
        _log.info("stopped")

    def close(self, grace_seconds: float | None = None) -> None:
        """Take no new calls and end the open ones, after the grace by cancelling them."""
        if self._closed:
            return
        self._closed = True
        self.health.drain()
        self.health.close()
        self._server.stop(grace_seconds).wait()
        if self._health_server is not None:
            self._health_server.stop(None).wait()
        self._close_pools()

    def _close_pools(self) -> None:
        for pool in (self._pool, self._probes, self.threads):
            pool.shutdown(wait=True)

    def _add_reflection(self, services: tuple[str, ...]) -> None:
        """Serve reflection v1, and v1alpha, which has the same messages, for older tools.

        Its streams stay out of the unary calls' pool: a tool may hold one open for as long as it likes.
        """
        limit = StreamLimit(_MOST_REFLECTIONS)
        packages = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
        names = (*services, health_service.SERVICE, *(f"{package}.ServerReflection" for package in packages))
        _register_reflection_v1()
        servicer = reflection.ReflectionServicer(names)

        def info(requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
            for request in requests:
                asked = from_wire_message(reflection_pb2.ServerReflectionRequest, request)
                resolved = reflection_pb2.ServerReflectionRequest.FromString(request)
                if asked.HasField("file_containing_symbol"):
                    resolved.file_containing_symbol = _enclosing_symbol(asked.file_containing_symbol)
                for response in servicer.ServerReflectionInfo(iter([resolved]), context):
                    response.original_request.CopyFrom(asked)
                    yield response.SerializeToString()

        for package in packages:
            service = f"{package}.ServerReflection"
            meter = Meter(self.metrics, service, "ServerReflectionInfo", BIDI_STREAM)
            self.add_service(
                service, {"ServerReflectionInfo": interceptors.bidirectional(info, meter, limit, self.threads)}
            )


def _listen(
    server: grpc.Server, listen: str, setting: str, credentials: grpc.ServerCredentials | None = None
) -> tuple[str, int]:
    """Have a server listen, with TLS where there are credentials, on the host and port that it returns."""
    host, port = parse_listen(listen, setting)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if credentials is None:
            return host, server.add_insecure_port(address)
        return host, server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise InvalidSettingError(
            setting, f"cannot listen on {listen}", "another port, or stop what listens there"
        ) from error


class _Unknown(grpc.GenericRpcHandler):
    """Refuses what nobody else handles as every other error is told: grpc's own refusal has no details."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        error = MethodUnknownError(handler_call_details.method)

        def refuse(_requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
            context.abort_with_status(to_grpc_status(error))
            raise error

        # Of both kinds of stream, so that it is refused before a request has come, whatever the caller takes it for.
        return grpc.stream_stream_rpc_method_handler(refuse)


def _enclosing_symbol(symbol: str) -> str:
    """Return the symbol, or the service or message it is a member of: Python's pool does not find members."""
    parts = symbol.split(".")
    for length in range(len(parts), 0, -1):
        enclosing = ".".join(parts[:length])
        with contextlib.suppress(KeyError):
            descriptor_pool.Default().FindFileContainingSymbol(enclosing)
            return enclosing
    return symbol


def _register_reflection_v1() -> None:
    """Make v1's descriptors known, which grpcio-reflection does not ship: v1alpha's under the other package."""
    source = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(source)
    text = text_format.MessageToString(source).replace("v1alpha", "v1")
    copy = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    descriptor_pool.Default().AddSerializedFile(copy.SerializeToString())
