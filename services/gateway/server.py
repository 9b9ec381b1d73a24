"""The gateway put together: clients of the services, the application, and the HTTP server it runs in.

`open_gateway` answers from the moment it is entered, whether or not the services behind it do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import tickwatch
import uvicorn
from prometheus_client import CollectorRegistry

from services.core.errors import InvalidSettingError
from services.core.telemetry import GatewayMetrics, parse_listen
from services.gateway.answers import KEPT_SECONDS, KeptAnswers
from services.gateway.app import build_app
from services.gateway.events import STALLED_SECONDS, EventStreams
from services.gateway.http_protocol import HttpProtocol
from services.gateway.limiting import RateLimit
from services.gateway.relaying import HEARTBEAT_SECONDS, LINGER_SECONDS
from services.gateway.subscribing import Relays
from services.gateway.upstream import open_upstream

_BACKLOG = 2048


class GatewayServer:
    """A running gateway."""

    def __init__(
        self, listener: socket.socket, http: HttpServer, streams: EventStreams, relays: Relays, drain_seconds: float
    ) -> None:
        self._host, self.port = listener.getsockname()[:2]
        self._http = http
        self._streams = streams
        self.relays = relays
        self._drain_seconds = drain_seconds
        self._serving = asyncio.create_task(http.serve([listener]), name="tickwatch-gateway")
        self._ending: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - names what is not an address
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def buffered_bytes(self) -> list[int]:
        """How many bytes each connection has that its reader has not taken."""
        return [connection.transport.get_write_buffer_size() for connection in self._http.server_state.connections]

    async def drain(self) -> None:
        """Stop without losing a request: not ready, drain delay, event streams end, open requests end.

        May be called twice.
        """
        self._ending = self._ending or asyncio.create_task(self._drain(), name="tickwatch-gateway-drain")
        await asyncio.shield(self._ending)

    async def _drain(self) -> None:
        self._streams.refuse()
        await asyncio.sleep(self._drain_seconds)
        self._streams.close()
        self._http.should_exit = True
        await self._serving


class HttpServer(uvicorn.Server):
    """uvicorn's server without a hand on the process's signals, which are the command's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def open_gateway(
    *,
    listen: str = "127.0.0.1:8080",
    query: str = "127.0.0.1:50051",
    alerts: str = "127.0.0.1:50052",
    cors_origins: tuple[str, ...] = (),
    requests_per_second: float | None = 50.0,
    burst: int = 200,
    trusted_proxies: tuple[str, ...] = (),
    max_streams: int = 4096,
    drain_seconds: float = 0.0,
    credentials: tickwatch.Credentials | None = None,
    grace_seconds: float = 10.0,
    registry: CollectorRegistry | None = None,
    kept_seconds: float = KEPT_SECONDS,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    linger_seconds: float = LINGER_SECONDS,
    stalled_seconds: float = STALLED_SECONDS,
) -> AsyncIterator[GatewayServer]:
    """Serve HTTP at `listen` (HOST:PORT, port 0 leaves it to the machine); on exit drain, unless that was done before.

    `query` and `alerts` are the services' targets, HOST:PORT or dns:///NAME:PORT, `credentials` what they are shown.
    Pages from `cors_origins` may read answers, "*" from anywhere. A client may ask `requests_per_second` times, and
    `burst` times at once; None sets no limit. Behind `trusted_proxies` (addresses or networks) the client is who they
    say. `max_streams` limits event streams. `drain_seconds` is how long requests are still taken after /readyz has
    turned, as long as balancers need to see it; `grace_seconds` how long open requests may take to end. Answers are
    kept for `kept_seconds`, a quiet event stream has a comment every `heartbeat_seconds`, a stream of a service ends
    `linger_seconds` after its last reader, and a reader who takes nothing for `stalled_seconds` is given up.

    Raises InvalidSettingError for an address that cannot be listened on.
    """
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(open_upstream(query, alerts, credentials))
        metrics = GatewayMetrics(registry or CollectorRegistry())
        answers = KeptAnswers(kept_seconds)
        streams = EventStreams(max_streams, stalled_seconds)
        relays = Relays(
            upstream,
            on_news=answers.forget,
            heartbeat_seconds=heartbeat_seconds,
            linger_seconds=linger_seconds,
        )
        stack.push_async_callback(relays.close)
        metrics.event_streams.set_function(lambda: len(streams))
        metrics.relays.set_function(lambda: len(relays))
        limit = None if requests_per_second is None else RateLimit(requests_per_second, burst)
        config = uvicorn.Config(
            build_app(upstream, relays, streams, answers, metrics, cors_origins=cors_origins, limit=limit),
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_graceful_shutdown=max(1, round(grace_seconds)),
        )
        listener = stack.enter_context(_listening(listen))
        server = GatewayServer(listener, HttpServer(config), streams, relays, drain_seconds)
        stack.push_async_callback(server.drain)
        yield server


def _listening(listen: str) -> socket.socket:
    """Return a socket that takes connections at this address from now on."""
    host, port = parse_listen(listen, "gateway.listen")
    # Only of a socket that says it is TCP does asyncio turn Nagle's algorithm off, which else holds back the body of an
    # answer for 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidSettingError(
            "gateway.listen", f"cannot listen on {listen}", "another port, or stop what listens there"
        ) from error
    return listener
