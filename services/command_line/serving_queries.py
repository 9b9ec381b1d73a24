"""The query service as a command: in one process, or in several on one port, because Python answers on one core each.

Every process opens the store and fills a window by itself, and listens with SO_REUSEPORT: the kernel deals out the
connections. They live and die together: one that ends takes the others with it, so that whoever started the command
starts it anew, whole.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from multiprocessing.process import BaseProcess

import click
from prometheus_client import CollectorRegistry

from services import wiring
from services.core.errors import InvalidSettingError
from services.core.settings import Settings
from services.core.stopping import stop_signals, until_stopped
from services.core.telemetry import parse_listen, serve_metrics
from services.query.server import open_query_server

EXIT_OK, EXIT_FAILED = 0, 1

_log = logging.getLogger(__name__)


def serve_queries(settings: Settings, listen: str | None = None) -> int:
    """Serve until SIGINT or SIGTERM and return the exit code: 1 where a process has ended by itself.

    With `query.processes` above 1, /metrics of the second process is at the port after that of `metrics.listen`, and so
    on. Raises InvalidSettingError for what cannot be listened on, StoreRefusedError for a store that refuses.
    """
    count = settings.query.processes
    address = listen or settings.query.listen
    if count > 1 and parse_listen(address, "query.listen")[1] == 0:
        raise InvalidSettingError(
            "query.listen", f"{address} leaves the port to the machine", f"a port that all {count} processes can share"
        )
    return asyncio.run(_serve(settings, address, 0))


def _serve_beside(settings: Settings, address: str, number: int) -> None:
    """Serve in a process that another has started; it ends with that one, however that ends."""
    asyncio.run(_serve(settings, address, number))


async def _serve(settings: Settings, address: str, number: int) -> int:
    """Serve as process `number`; number 0 starts the others and watches them."""
    wiring.configure_logs(settings)
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        store = stack.enter_context(wiring.open_store(settings))
        if settings.metrics.listen:
            stack.enter_context(serve_metrics(_beside(settings.metrics.listen, number), registry))
        arguments = wiring.query_arguments(settings, address, reuse_port=settings.query.processes > 1)
        server = await stack.enter_async_context(open_query_server(reader=store, registry=registry, **arguments))
        others: list[BaseProcess] = []
        if number == 0:
            others = stack.enter_context(_others(settings, address))
            click.echo(f"tickwatch query: listening on {server.address}", err=True)
        elif parent := multiprocessing.parent_process():
            others = [parent]
        with _watching(others, stop) as ended:
            # A store that refuses to be read ends the process; one out of reach is waited for.
            await until_stopped(stop, server.ready())
            await stop.wait()
    failed = [other for other in ended if number == 0 and other.exitcode]
    for other in failed:
        _log.error("%s ended with %s, and so have the others", other.name, other.exitcode)
    return EXIT_FAILED if failed else EXIT_OK


@contextmanager
def _others(settings: Settings, address: str) -> Iterator[list[BaseProcess]]:
    """Run the processes after the first; on exit ask them to drain, and wait for them.

    They are started anew rather than forked, which neither grpc nor threads survive.
    """
    context = multiprocessing.get_context("spawn")
    others: list[BaseProcess] = [
        context.Process(target=_serve_beside, args=(settings, address, number), name=f"tickwatch-query-{number}")
        for number in range(1, settings.query.processes)
    ]
    try:
        for other in others:
            other.start()
        yield others
    finally:
        started = [other for other in others if other.pid is not None]
        for other in started:
            other.terminate()
        for other in started:
            other.join()


@contextmanager
def _watching(others: list[BaseProcess], stop: asyncio.Event) -> Iterator[list[BaseProcess]]:
    """Set `stop` when any of these processes ends; yields those that have."""
    loop, ended = asyncio.get_running_loop(), list[BaseProcess]()

    def end(other: BaseProcess) -> None:
        loop.remove_reader(other.sentinel)
        ended.append(other)
        stop.set()

    for other in others:
        loop.add_reader(other.sentinel, end, other)
    try:
        yield ended
    finally:
        for other in others:
            loop.remove_reader(other.sentinel)


def _beside(listen: str, number: int) -> str:
    """Return the address `number` ports after this one; port 0 stays 0."""
    host, port = parse_listen(listen, "metrics.listen")
    return f"[{host}]:{port + number if port else 0}" if ":" in host else f"{host}:{port + number if port else 0}"
