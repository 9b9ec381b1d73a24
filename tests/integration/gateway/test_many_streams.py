"""Two thousand readers on one gateway: all of them hear, and the services behind notice one."""

from __future__ import annotations

import asyncio

from tests.support.alerter import LogWriter, breach
from tests.support.gateway import serve
from tests.support.query import eventually, make_market, make_store

COUNT = 2000

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def test_two_thousand_streams() -> None:
    """Every one of 2,000 open streams has the event; the alerter serves one stream; all are let go of afterwards."""
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    async with serve(store, requests_per_second=None, linger_seconds=0.05) as gateway:

        async def connect() -> Connection:
            connection = await asyncio.open_connection("127.0.0.1", gateway.server.port)
            connection[1].write(b"GET /v1/breaches/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await connection[0].readuntil(b"event: snapshot\n")
            return connection

        async def counted() -> tuple[float | None, float | None]:
            labels = {
                "grpc_type": "server_stream",
                "grpc_service": "tickwatch.v1.AlertService",
                "grpc_method": "WatchBreaches",
            }
            return (
                gateway.registry.get_sample_value("tickwatch_http_event_streams"),
                gateway.behind.get_sample_value("tickwatch_rpc_open_streams", labels),
            )

        async with asyncio.timeout(300):
            connections: list[Connection] = []
            for _ in range(0, COUNT, 100):  # as many at a time as connections may wait to be taken
                connections += await asyncio.gather(*(connect() for _ in range(100)))
            held = await eventually(counted, lambda found: found == (COUNT, 1), seconds=60)
            event = breach()
            writer.append(event)
            wanted = f'"id":"{event.id}"'.encode()
            await asyncio.gather(*(reader.readuntil(wanted) for reader, _ in connections))
            for _, writing in connections:
                writing.close()
            after = await eventually(counted, lambda found: found == (0, 0), seconds=60)

    assert (held, after) == ((COUNT, 1), (0, 0))
