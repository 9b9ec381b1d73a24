"""A reader who stops reading costs the gateway a buffer, the others nothing, and is let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import pytest

from tests.support.alerter import LogWriter, breach
from tests.support.gateway import reading, serve
from tests.support.query import LAST, eventually, make_market, make_store

BREACHES = "/v1/breaches/stream"
MOST_BUFFERED = 2 * 65_536
"""uvicorn's limit, with room for the frame that exceeds it."""


async def test_a_reader_who_stops_reading_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    """While megabytes pass to others, a stalled reader's buffer stays small; after the limit his connection is dropped.

    Nothing of it is an error: the log stays empty.
    """
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    events = [breach(f"SIM:P{number:05d}", opened=LAST - 5, message="m" * 2_000) for number in range(6_000)]
    async with serve(store, requests_per_second=None, stalled_seconds=1.0) as gateway:
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.setblocking(False)  # noqa: FBT003  # it takes nothing else
            loop = asyncio.get_running_loop()
            await loop.sock_connect(stalled, ("127.0.0.1", gateway.server.port))
            await loop.sock_sendall(stalled, f"GET {BREACHES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            async with reading(gateway.http, BREACHES) as attentive:
                await attentive.next("snapshot")

                async def streams() -> float | None:
                    return gateway.registry.get_sample_value("tickwatch_http_event_streams")

                assert await eventually(streams, lambda open_now: open_now == 2) == 2
                heard, largest = [], 0
                for start in range(0, len(events), 50):
                    batch = events[start : start + 50]
                    writer.append(*batch)
                    heard += [(await attentive.next("breach")).data["id"] for _ in batch]
                    largest = max(largest, *gateway.server.buffered_bytes)
                    if await streams() == 1:
                        break

                async def connections() -> int:
                    return len(gateway.server.buffered_bytes)

                held = await eventually(connections, lambda count: count == 1, seconds=60)
                with contextlib.suppress(ConnectionResetError):
                    async with asyncio.timeout(60):
                        while await loop.sock_recv(stalled, 65_536):
                            pass

    assert held == 1
    assert heard == [event.id for event in events[: len(heard)]]
    assert len(heard) >= 50
    assert 0 < largest <= MOST_BUFFERED
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]
