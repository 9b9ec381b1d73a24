"""`tickwatch query` in several processes on one port, for as long as the command itself has no setting for it.

    python -m benchmarks.several COUNT

Each process is started anew (never forked: grpc does not survive it), opens the store by itself and listens with
SO_REUSEPORT; the kernel deals connections out to them. Settings come from the environment as for `tickwatch query`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys

from services import wiring
from services.core.settings import load_settings
from services.core.stopping import stop_signals
from services.query.server import open_query_server


async def _serve() -> None:
    settings = load_settings()
    with stop_signals() as stop, wiring.open_store(settings) as store:
        async with open_query_server(reader=store, reuse_port=True, **wiring.query_arguments(settings)):
            await stop.wait()


def serve() -> None:
    """Serve in this process until SIGTERM."""
    asyncio.run(_serve())


def main() -> None:
    """Serve in so many processes until SIGTERM."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=serve) for _ in range(int(sys.argv[1]) - 1)]
    for other in others:
        other.start()
    try:
        serve()
    finally:
        for other in others:
            other.terminate()
        for other in others:
            other.join()


if __name__ == "__main__":
    main()
