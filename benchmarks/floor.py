"""What gRPC in Python costs when there is nothing to do: a server that returns prepared bytes from a generic handler.

    python -m benchmarks.floor aio|pool PORT FOLDER

serves /floor/NAME with the bytes of FOLDER/NAME, whatever the request. `aio` is grpc.aio, `pool` grpc's thread pool of
eight; whichever is faster is the floor, which no server of ours on grpcio can be below.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

SERVICE = "floor"
KINDS = ("aio", "pool")
_POOL_THREADS = 8


def _handlers(folder: Path, unary: Callable[[bytes], Any]) -> grpc.GenericRpcHandler:
    methods: dict[str, Any] = {
        path.name: grpc.unary_unary_rpc_method_handler(unary(path.read_bytes())) for path in sorted(folder.iterdir())
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def _serve_aio(address: str, folder: Path) -> None:
    def unary(answer: bytes) -> Callable[[bytes, Any], Any]:
        async def handle(_request: bytes, _context: object) -> bytes:
            return answer

        return handle

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_handlers(folder, unary),))
    server.add_insecure_port(address)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0)


def _serve_pool(address: str, folder: Path) -> None:
    def unary(answer: bytes) -> Callable[[bytes, Any], bytes]:
        return lambda _request, _context: answer

    server = grpc.server(futures.ThreadPoolExecutor(_POOL_THREADS))
    server.add_generic_rpc_handlers((_handlers(folder, unary),))
    server.add_insecure_port(address)
    server.start()
    signal.sigwait({signal.SIGTERM})
    server.stop(0).wait()


def main() -> None:
    """Serve until SIGTERM."""
    kind, port, folder = sys.argv[1:]
    address = f"127.0.0.1:{port}"
    if kind == "aio":
        asyncio.run(_serve_aio(address, Path(folder)))
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        _serve_pool(address, Path(folder))


if __name__ == "__main__":
    main()
