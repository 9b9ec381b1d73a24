"""Servers that ask who calls, and what a caller of each kind is told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from tickwatch.v1 import alert_pb2, query_pb2

from services.core.clock import ManualClock
from services.core.rpc import interceptors
from services.core.rpc.access import Protection
from services.core.rpc.interceptors import Context, Handler, Meter, StreamLimit
from services.core.rpc.server import RpcServer
from services.core.rpc.serving import Serving
from services.core.rpc.tls import TlsFiles
from tests.support.certificates import Authority, Pair
from tests.support.query import NOW

STREAMING = {
    f"/{service.full_name}/{method.name}": method.server_streaming
    for module in (query_pb2, alert_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Every method of the contract by its path, and whether it streams."""


def _answer(_request: bytes, _context: Context) -> bytes:
    return b""


def _answers(_request: bytes, _context: Context) -> Iterator[bytes]:
    yield b""
    yield b""


@contextlib.asynccontextmanager
async def every_method(protection: Protection) -> AsyncIterator[RpcServer]:
    """Serve every method of the contract: each answers with an empty message, a stream with two."""
    services = sorted({path.split("/")[1] for path in STREAMING})
    rpc = RpcServer(
        Serving(listen="127.0.0.1:0", protection=protection),
        services=tuple(services),
        registry=CollectorRegistry(),
        clock=ManualClock(NOW),
    )
    for service in services:
        handlers: dict[str, Handler] = {}
        for path, streaming in STREAMING.items():
            _, of, method = path.split("/")
            if of == service and streaming:
                meter = Meter(rpc.metrics, service, method, interceptors.SERVER_STREAM)
                handlers[method] = interceptors.stream(_answers, meter, StreamLimit(10), rpc.threads)
            elif of == service:
                handlers[method] = interceptors.unary(_answer, Meter(rpc.metrics, service, method))
        rpc.add_service(service, handlers)
    rpc.start()
    rpc.health.set(serving=True)
    try:
        yield rpc
    finally:
        await rpc.drain()


async def call(channel: Any, path: str, authorization: str | None = None) -> int:
    """Call a method with this authorization, and return how many messages came; raises AioRpcError."""
    metadata = () if authorization is None else (("authorization", authorization),)
    if not STREAMING.get(path, False):
        await channel.unary_unary(path)(b"", timeout=20, metadata=metadata)
        return 1
    count = 0
    async for _ in channel.unary_stream(path)(b"", timeout=20, metadata=metadata):
        count += 1
    return count


def tls_files(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    """Return a server's files."""
    return TlsFiles(pair.cert, pair.key, client_ca)


def localhost(authority: Authority, into: Pair | None = None) -> Pair:
    """Have an authority sign a certificate for servers on this machine."""
    return authority.issue("127.0.0.1", "localhost", into=into)
