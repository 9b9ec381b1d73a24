"""The gateway put together: clients of the services, the application, and the HTTP server it runs in.

`open_gateway` answers from the moment it is entered, whether or not the services behind it do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn

from services.core.errors import InvalidSettingError
from services.core.telemetry import parse_listen
from services.gateway.app import build_app
from services.gateway.upstream import open_upstream

_BACKLOG = 2048


class GatewayServer:
    """A running gateway."""

    def __init__(self, host: str, port: int, http: HttpServer, serving: asyncio.Task[None]) -> None:
        self._host = host
        self.port = port
        self._http = http
        self._serving = serving

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - names what is not an address
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def drain(self) -> None:
        """Stop: take no new connections, end the event streams, let open requests end."""
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
    grace_seconds: float = 10.0,
) -> AsyncIterator[GatewayServer]:
    """Serve HTTP at `listen` (HOST:PORT, port 0 leaves it to the machine); on exit drain.

    `query` and `alerts` are the services' targets, HOST:PORT or dns:///NAME:PORT. `grace_seconds` is how long open
    requests may take to end.

    Raises InvalidSettingError for an address that cannot be listened on.
    """
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(open_upstream(query, alerts))
        listener = stack.enter_context(_listening(listen))
        config = uvicorn.Config(
            build_app(upstream),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(grace_seconds),
        )
        http = HttpServer(config)
        serving = asyncio.create_task(http.serve([listener]), name="tickwatch-gateway")
        host, port = listener.getsockname()[:2]
        server = GatewayServer(host, port, http, serving)
        stack.push_async_callback(server.drain)
        yield server


def _listening(listen: str) -> socket.socket:
    """Return a socket that takes connections at this address from now on."""
    host, port = parse_listen(listen, "gateway.listen")
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise InvalidSettingError(
            "gateway.listen", f"cannot listen on {listen}", "another port, or stop what listens there"
        ) from error
