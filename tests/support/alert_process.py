"""A process whose only load is streams: an alert service's, or those of a handler that does nothing.

`python -m tests.support.alert_process service|empty` prints its port, then answers every line on standard input with
its resident memory in bytes and the number of objects that the garbage collector knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from tests.support.alerter import LogWriter, serve
from tests.support.query import make_store

METHOD = "/tickwatch.v1.AlertService/WatchBreaches"


class Weight(NamedTuple):
    """What a process takes."""

    resident_bytes: int
    objects: int


class Weighed:
    """A running process, and what it weighs."""

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.alert_process", kind],
            # One arena: otherwise threads that come and go spread what is freed over several heaps.
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = f"127.0.0.1:{self._line()}"

    def weigh(self) -> Weight:
        """Return what it takes now, garbage collected."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        resident, objects = self._line().split()
        return Weight(int(resident), int(objects))

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        return line.strip()


@contextlib.contextmanager
def weighed(kind: str) -> Iterator[Weighed]:
    """Run a process for as long as the context lasts."""
    process = Weighed(kind)
    try:
        yield process
    finally:
        process.close()


async def open_and_cancel(address: str, count: int, at_once: int = 50) -> None:
    """Open so many streams, read the first message of each, and cancel it."""
    async with grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_stream(METHOD)

        async def one() -> None:
            call = method(b"")
            assert await call.read() is not grpc.aio.EOF
            call.cancel()

        for _ in range(count // at_once):
            async with asyncio.timeout(60):
                await asyncio.gather(*(one() for _ in range(at_once)))


def _serve_nothing() -> None:
    class Empty(grpc.GenericRpcHandler):
        def service(self, _details: object) -> Any:
            return grpc.unary_stream_rpc_method_handler(_nothing)

    server = grpc.server(ThreadPoolExecutor(256))
    server.add_generic_rpc_handlers([Empty()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _answer(port)
    server.stop(0).wait()


def _nothing(_request: bytes, context: Any) -> Iterator[bytes]:
    ended = threading.Event()
    if context.add_callback(ended.set):
        yield b""
        ended.wait()


async def _serve_alerts() -> None:
    store = make_store()
    LogWriter(store.breach_log)
    async with serve(store, max_streams=512) as service:
        await asyncio.to_thread(_answer, service.server.port)


def _answer(port: int) -> None:
    _say(port)
    for _ in sys.stdin:
        _settle()
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        _say(pages * os.sysconf("SC_PAGESIZE"), len(gc.get_objects()))


def _say(*words: int) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _settle() -> None:
    """Wait until no stream's thread is at work any more."""
    for thread in threading.enumerate():
        if thread.name.startswith("tickwatch-stream"):
            thread.join(30)


if __name__ == "__main__":
    if sys.argv[1] == "empty":
        _serve_nothing()
    else:
        asyncio.run(_serve_alerts())
