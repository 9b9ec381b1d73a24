"""Event streams over real HTTP: live, resumed, shared, interrupted, and ended cleanly by either side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

import httpx
import pytest

from services.alerter.streams.cursors import cursor_text
from services.core.breaches import Position
from services.core.clock import ManualClock
from services.core.model import Measure, Points, Quality, Series, Slot
from services.core.store.memory import MemoryMetricStore
from services.gateway.server import open_gateway
from services.gateway.sources import BreachSource
from services.gateway.subscribing import Relays
from services.gateway.upstream import open_upstream
from tests.support import alerter, query
from tests.support.alerter import LogWriter, breach, many, resolved
from tests.support.gateway import Gateway, reading, reason, serve
from tests.support.ports import free_port
from tests.support.query import LAST, NOW, eventually, make_market, make_store

POINTS = "/v1/points/stream"
BREACHES = "/v1/breaches/stream"


def write(store: MemoryMetricStore, value: float, slot: int = LAST, metric: str = "SIM:AAA") -> None:
    """Write one price."""
    store.write(Points.of([(Series(metric, Measure.PRICE), Slot(slot), value, Quality.OBSERVED)]))


def upstream_streams(gateway: Gateway, service: str, method: str) -> float:
    """Return how many streams of a service are open."""
    labels = {"grpc_type": "server_stream", "grpc_service": f"tickwatch.v1.{service}", "grpc_method": method}
    return gateway.behind.get_sample_value("tickwatch_rpc_open_streams", labels) or 0.0


async def open_streams(gateway: Gateway, count: int) -> None:
    """Wait until so many event streams are open."""

    async def ask() -> float | None:
        return gateway.registry.get_sample_value("tickwatch_http_event_streams")

    await eventually(ask, lambda found: found == count, seconds=20)


async def test_points_come_as_they_are_written() -> None:
    """A stream begins with a bookmark, then has every point as columns; its ids are the service's cursors."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store) as gateway, reading(gateway.http, POINTS) as reader:
        first = await reader.next()
        write(store, 1.5)
        points = await reader.next("points")

    assert reader.response.headers["content-type"].startswith("text/event-stream")
    assert reader.response.headers["cache-control"] == "no-store"
    assert (first.kind, first.data) == ("bookmark", {})
    assert first.id
    assert points.id not in ("", None, first.id)
    assert points.data == {
        "slot_time": "2026-11-24T05:59:00Z",
        "metrics": ["SIM:AAA"],
        "measures": ["price"],
        "values": [1.5],
        "backfilled": [False],
    }


async def test_points_are_narrowed() -> None:
    """Metrics and measures narrow a stream, given once or several times."""
    store = make_store(make_market(["SIM:AAA", "SIM:BBB", "SIM:CCC"]))
    asked = {"metrics": ["SIM:BBB", "SIM:CCC"], "measures": "price"}
    async with serve(store) as gateway, reading(gateway.http, POINTS, **asked) as reader:
        await reader.next("bookmark")
        for number, metric in enumerate(("SIM:AAA", "SIM:BBB", "SIM:CCC")):
            write(store, number, metric=metric)
        seen: list[float] = []
        while len(seen) < 2:
            seen += (await reader.next("points")).data["values"]

    assert seen == [1.0, 2.0]


async def test_breaches_begin_with_what_is_open() -> None:
    """A stream begins with a snapshot of the open episodes, then has each event as the kind that it is."""
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    opening = breach(slot=LAST - 5)
    writer.append(opening)
    async with serve(store) as gateway, reading(gateway.http, BREACHES) as reader:
        snapshot = await reader.next()
        writer.append(resolved(opening, LAST))
        event = await reader.next()

    assert snapshot.kind == "snapshot"
    (episode,) = snapshot.data["episodes"]
    assert (episode["id"], episode["state"], episode["opening"]["id"]) == (opening.episode_id, "open", opening.id)
    assert snapshot.data["evaluated_time"] == "2026-11-24T06:00:00Z"
    assert (event.kind, event.data["resolved_reason"], event.data["withdrawn_id"]) == ("resolved", "calm", None)
    assert event.data["episode_id"] == opening.episode_id


async def test_a_late_reader_begins_with_what_is_open_then() -> None:
    """Whoever joins a stream that others read has the episodes that are open as he comes, none twice and none lost."""
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    async with serve(store) as gateway, reading(gateway.http, BREACHES) as early:
        await early.next("snapshot")
        events = many(250)
        writer.append(*events)
        for _ in events:
            await early.next("breach")
        async with reading(gateway.http, BREACHES) as late:
            snapshot = await late.next()
            last = breach("SIM:LAST")
            writer.append(last)
            replayed = []
            while not replayed or replayed[-1] != last.id:
                replayed.append((await late.next("breach")).data["id"])
        streams = upstream_streams(gateway, "AlertService", "WatchBreaches")

    known = [episode["opening"]["id"] for episode in snapshot.data["episodes"]]
    assert sorted([*known, *replayed]) == sorted(event.id for event in [*events, last])
    assert streams == 1


@pytest.mark.parametrize("same_gateway", [True, False])
async def test_the_last_event_id_resumes(*, same_gateway: bool) -> None:
    """A reader who comes back has exactly what he has missed, be it in the gateway's memory or in the log alone."""
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    events = many(8)
    async with serve(store) as gateway:
        async with reading(gateway.http, BREACHES) as first:
            await first.next("snapshot")
            writer.append(*events[:3])
            had = [(await first.next("breach")).data["id"] for _ in range(2)]
        if same_gateway:
            writer.append(*events[3:6])
            missed = await read_on(gateway.http, first.last_id, writer, events[6:])
    if not same_gateway:
        writer.append(*events[3:6])
        async with serve(store) as gateway, reading(gateway.http, BREACHES) as other:
            await other.next("snapshot")
            missed = await read_on(gateway.http, first.last_id, writer, events[6:])

    assert [*had, *missed] == [event.id for event in events]


async def read_on(http: httpx.AsyncClient, last_id: str, writer: LogWriter, more: list[Any]) -> list[str]:
    """Resume, append more once what was missed has begun to come, and return the ids of the six events that follow."""
    async with reading(http, BREACHES, last_event_id=last_id) as again:
        ids = [(await again.next("breach")).data["id"]]
        writer.append(*more)
        ids += [(await again.next("breach")).data["id"] for _ in range(5)]
    return ids


async def test_points_are_resumed_from_the_store() -> None:
    """What was written while nobody read comes first, from a gateway that has never seen it, and then what follows."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store) as gateway, reading(gateway.http, POINTS) as first:
        await first.next("bookmark")
        write(store, 1.0)
        await first.next("points")
    write(store, 2.0)
    async with serve(store) as gateway, reading(gateway.http, POINTS) as other:
        await other.next("bookmark")
        async with reading(gateway.http, POINTS, last_event_id=first.last_id) as again:
            missed = await again.next("points")
            write(store, 3.0)
            following = await again.next("points")
            one = await eventually(
                lambda: asyncio.sleep(0, upstream_streams(gateway, "QueryService", "WatchPoints")),
                lambda count: count == 1,
                seconds=20,
            )

    assert (missed.data["values"], following.data["values"]) == ([2.0], [3.0])
    assert one == 1


@pytest.mark.parametrize("address", [POINTS, BREACHES])
async def test_a_last_event_id_of_another_store_resets(address: str) -> None:
    """A browser can do nothing about its last id: it is told by `reset`, forgets it, and begins anew."""
    market = make_market(["SIM:AAA"])
    async with serve(make_store(market)) as gateway, reading(gateway.http, address) as elsewhere:
        await elsewhere.next()
    async with (
        serve(make_store(market)) as gateway,
        reading(gateway.http, address, last_event_id=elsewhere.last_id) as reader,
    ):
        reset = await reader.next()
        after_reset = reader.last_id
        begin = await reader.next()
        insisting = await gateway.http.get(address, params={"cursor": elsewhere.last_id})

    assert (reset.kind, reset.id, after_reset) == ("reset", "", "")
    assert reset.data["error"]["details"][0]["reason"] in ("CURSOR_EXPIRED", "INVALID_CURSOR")
    assert begin.kind in ("bookmark", "snapshot")
    assert (insisting.status_code, reason(insisting)) == (400, reset.data["error"]["details"][0]["reason"])


@pytest.mark.parametrize("address", [POINTS, BREACHES])
async def test_a_cursor_too_old_is_never_a_silent_gap(address: str) -> None:
    """400 with CURSOR_EXPIRED for who gives it in the address, `reset` and a new begin for a browser."""
    clock = ManualClock(NOW)
    store = make_store(make_market(["SIM:AAA"]), clock)
    LogWriter(store.breach_log).append(*many(2))
    if address == POINTS:
        old = store.mark()
        write(store, 1.0)
        clock.advance(26 * 3600)
        write(store, 2.0, slot=LAST + 26 * 60)
        store.expire()
    else:
        old = cursor_text(store.breach_log.log_id(), Position(Slot(LAST - 40 * 1440), 0))
    async with serve(store) as gateway:
        insisting = await gateway.http.get(address, params={"cursor": old})
        async with reading(gateway.http, address, last_event_id=old) as reader:
            reset, begin = await reader.next(), await reader.next()

    assert (insisting.status_code, reason(insisting)) == (400, "CURSOR_EXPIRED")
    assert (reset.kind, reset.data) == ("reset", insisting.json())
    assert begin.kind in ("bookmark", "snapshot")


async def test_equal_streams_share_one_of_the_service() -> None:
    """Fifty readers of the same take one stream of the service and have every event; other filters take another."""
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    async with serve(store) as gateway, contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=gateway.server.url, timeout=20, limits=httpx.Limits(max_connections=100))
        )
        readers = [await stack.enter_async_context(reading(http, BREACHES)) for _ in range(50)]
        other = await stack.enter_async_context(reading(http, BREACHES, min_severity="critical"))
        for reader in [*readers, other]:
            await reader.next("snapshot")
        events = many(20)
        writer.append(*events)
        seen = [[(await reader.next("breach")).data["id"] for _ in events] for reader in readers]
        streams = await eventually(
            lambda: asyncio.sleep(0, upstream_streams(gateway, "AlertService", "WatchBreaches")),
            lambda count: count <= 2,
            seconds=20,
        )

    assert seen == [[event.id for event in events]] * 50
    assert streams == 2


async def test_the_last_reader_takes_the_stream_along() -> None:
    """A reader who closes his connection without a word is noticed, and with the last the service's stream ends."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store, linger_seconds=0.05) as gateway:
        raw = socket.create_connection(("127.0.0.1", gateway.server.port))
        raw.sendall(b"GET /v1/points/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await open_streams(gateway, 1)
        during = await eventually(
            lambda: asyncio.sleep(0, upstream_streams(gateway, "QueryService", "WatchPoints")),
            lambda count: count == 1,
            seconds=20,
        )
        raw.close()
        await open_streams(gateway, 0)
        after = await eventually(
            lambda: asyncio.sleep(0, upstream_streams(gateway, "QueryService", "WatchPoints")),
            lambda count: count == 0,
            seconds=20,
        )

    assert (during, after) == (1, 0)


async def test_quiet_streams_have_heartbeats() -> None:
    """Where the service says nothing a comment keeps the connection alive, and no reader takes it for an event."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store, heartbeat_seconds=0.02) as gateway, reading(gateway.http, POINTS) as reader:
        await reader.next("bookmark")
        await asyncio.sleep(0.2)
        write(store, 1.0)
        event = await reader.next()

    assert event.kind == "points"
    assert reader.comments >= 1


async def test_streams_end_when_the_gateway_stops() -> None:
    """A stop ends every stream between two events, as a complete response; the last id then resumes elsewhere."""
    store = make_store(make_market(["SIM:AAA"]))
    async with (
        serve(store) as gateway,
        reading(gateway.http, POINTS) as points,
        reading(gateway.http, BREACHES) as breaches,
    ):
        await points.next("bookmark")
        await breaches.next("snapshot")
        stopping = asyncio.create_task(gateway.server.drain())
        await points.ends()
        await breaches.ends()
        await stopping

    assert points.last_id
    assert breaches.last_id


async def test_streams_outlive_a_restart_of_the_services() -> None:
    """While a service is away its readers are told so, and afterwards they go on without a loss, on the same stream."""
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]

    @contextlib.asynccontextmanager
    async def behind() -> Any:
        async with query.serve(store, listen=addresses[0]), alerter.serve(store, listen=addresses[1]):
            yield

    async with (
        open_gateway(listen="127.0.0.1:0", query=addresses[0], alerts=addresses[1]) as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        await first.enter_async_context(behind())
        points = await stack.enter_async_context(reading(http, POINTS))
        breaches = await stack.enter_async_context(reading(http, BREACHES))
        await points.next("bookmark")
        await breaches.next("snapshot")
        await first.aclose()
        told = [await reader.next("interrupted") for reader in (points, breaches)]
        write(store, 7.0)
        writer.append(breach())
        await stack.enter_async_context(behind())
        after = [await points.next("points"), await breaches.next("breach")]

    assert [happening.id for happening in told] == [None, None]
    assert {happening.data["error"]["status"] for happening in told} == {"UNAVAILABLE"}
    assert after[0].data["values"] == [7.0]
    assert after[1].data["metric"] == "SIM:AAA"


async def test_a_reader_who_falls_behind_is_let_go(monkeypatch: Any) -> None:
    """Who falls behind the ring of kept events is told so as his last event, and from where to resume."""
    monkeypatch.setattr("services.gateway.relaying._MOST_FRAMES", 10)
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    source = BreachSource((), (), None, None, include_late=False)
    async with alerter.serve(store) as alerts, open_upstream("127.0.0.1:9", alerts.server.address) as upstream:
        relays = Relays(upstream, on_news=lambda: None)
        slow, attentive = await relays.subscribe(source, None), await relays.subscribe(source, None)
        async with contextlib.aclosing(slow.frames()) as read, contextlib.aclosing(attentive.frames()) as others:
            had = (await anext(read)).decode()
            await anext(others)
            for event in many(20):
                writer.append(event)
                async with asyncio.timeout(20):
                    while b"event: breach" not in await anext(others):
                        pass
            rest = [body.decode() async for body in read]
        await slow.close()
        await attentive.close()
        await relays.close()
    (ended,) = rest
    told = json.loads(ended.partition("data: ")[2])["error"]["details"][0]

    assert ended.startswith("event: ended\ndata: ")
    assert told["reason"] == "SLOW_SUBSCRIBER"
    assert f"id: {told['metadata']['cursor']}\n" in had


async def test_those_who_catch_up_take_turns(monkeypatch: Any) -> None:
    """Streams of a reader's own are few: whoever gets no turn is told to come back, and gets one when there is."""
    monkeypatch.setattr("services.gateway.subscribing._TURN_SECONDS", 0.05)
    store = make_store(make_market(["SIM:AAA"]))
    writer = LogWriter(store.breach_log)
    async with serve(store) as gateway, reading(gateway.http, BREACHES) as first:
        await first.next("snapshot")
    writer.append(*many(3))
    async with serve(store) as gateway:
        relays = gateway.server.relays
        turns = 0
        while not relays.catching_up.locked():
            await relays.catching_up.acquire()
            turns += 1
        refused = await gateway.http.get(BREACHES, headers={"Last-Event-ID": first.last_id})
        relays.catching_up.release()
        async with reading(gateway.http, BREACHES, last_event_id=first.last_id) as again:
            await again.next("breach")

    assert turns > 1
    assert (refused.status_code, reason(refused)) == (429, "TOO_MANY_STREAMS")
