"""The connections of a bulk load: while one request is answered, another is on its way and the next is being encoded.

A metric keeps to its lane and a lane to its order, so that of points that stand twice the later one stays. It knows
neither what the lines say nor who takes them.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from services.core.store.influx.bucket import SECONDS

LANES = 2
"""The server takes more from two connections than from one, as it waits for its disk at the end of each request."""
BODY_BYTES = 2 << 20
"""Of a request: large enough that their number does not matter, small enough for any proxy."""

_BODIES = 2
"""Of a lane, on their way or waiting; who brings more waits."""


class Lanes:
    """Sends lines with times in seconds; what fails is raised by a later call. On exit nothing is on its way."""

    def __init__(self, send: Callable[[bytes, str], None]) -> None:
        self._lanes = [_Lane(send) for _ in range(LANES)]

    def put(self, metric: str, lines: bytes) -> None:
        """Take whole lines of a metric."""
        self._lanes[zlib.crc32(metric.encode()) % LANES].put(lines)

    def flush(self) -> list[Future[None]]:
        """Let everything be sent that was put; done once these are."""
        return [sending for lane in self._lanes for sending in lane.flush()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for lane in self._lanes:
            lane.close()


class _Lane:
    """One connection, in a thread of its own."""

    def __init__(self, send: Callable[[bytes, str], None]) -> None:
        self._send = send
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="tickwatch-influx")
        self._waiting: list[bytes] = []
        self._size = 0
        self._sending: deque[Future[None]] = deque()

    def put(self, lines: bytes) -> None:
        self._waiting.append(lines)
        self._size += len(lines)
        if self._size >= BODY_BYTES:
            self.flush()

    def flush(self) -> tuple[Future[None], ...]:
        if self._waiting:
            while len(self._sending) >= _BODIES:
                self._sending.popleft().result()
            self._sending.append(self._sender.submit(self._send, b"".join(self._waiting), SECONDS))
            self._waiting, self._size = [], 0
        return tuple(self._sending)

    def close(self) -> None:
        self._sender.shutdown(cancel_futures=True)
