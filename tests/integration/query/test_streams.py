"""WatchPoints: nothing is lost, nobody starves, a slow reader harms himself alone, and what ends is gone."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import aclosing

import grpc
import numpy as np
import pytest
import tickwatch
from tickwatch.v1 import query_pb2 as wire
from tickwatch.v1 import query_pb2_grpc

from services.core.model import Measure, Points, Quality, Series, Slot
from services.core.streaming import WatchTimes
from tests.support.query import (
    LAST,
    NOW,
    Service,
    Wrong,
    eventually,
    failure,
    make_market,
    make_store,
    names,
    outcome,
    serve,
)

PRICE = Series("SIM:AAA", Measure.PRICE)


def one(series: Series = PRICE, slot: int = LAST, value: float = 1.0, quality: Quality = Quality.OBSERVED) -> Points:
    """Return a single point."""
    return Points.of([(series, slot, value, quality)])


async def with_points(stream: grpc.aio.UnaryStreamCall) -> wire.WatchPointsResponse:  # type: ignore[type-arg]
    """Return the next message that is not a bookmark."""
    async with asyncio.timeout(30):
        while not (message := await stream.read()).values:
            pass
    return message


async def read_on(stream: grpc.aio.UnaryStreamCall) -> list[wire.WatchPointsResponse]:  # type: ignore[type-arg]
    """Return all further messages of a stream that ends; raise what it ends with unless that is OK."""
    messages = []
    async with asyncio.timeout(20):
        while isinstance(message := await stream.read(), wire.WatchPointsResponse):
            messages.append(message)
    return messages


async def open_watch(service: Service, **request: object) -> grpc.aio.UnaryStreamCall:  # type: ignore[type-arg]
    """Open a stream and take its first bookmark."""
    stream = service.stub.WatchPoints(wire.WatchPointsRequest(**request))
    async with asyncio.timeout(30):
        first = await stream.read()
    assert first.cursor
    assert not first.values
    return stream


async def test_points_come_as_one_message_a_slot() -> None:
    """What is written, late points included, comes in messages of one slot each, slots ascending, with qualities."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store) as service:
        stream = await open_watch(service)
        store.write(
            Points.of(
                [
                    (PRICE, LAST, 3.0, Quality.OBSERVED),
                    (Series("SIM:BBB", Measure.VOLUME), LAST, 4.0, Quality.OBSERVED),
                    (PRICE, LAST - 100, 2.0, Quality.BACKFILLED),
                ]
            )
        )
        late, now = await with_points(stream), await with_points(stream)
        stream.cancel()

    assert (late.slot_time.seconds, list(late.values)) == ((LAST - 100) * 60, [2.0])
    assert list(late.qualities) == [wire.QUALITY_BACKFILLED]
    assert now.slot_time.seconds == LAST * 60
    assert list(zip(now.metrics, now.measures, now.values, now.qualities, strict=True)) == [
        ("SIM:AAA", wire.MEASURE_PRICE, 3.0, wire.QUALITY_OBSERVED),
        ("SIM:BBB", wire.MEASURE_VOLUME, 4.0, wire.QUALITY_OBSERVED),
    ]


async def test_only_what_was_asked_for_comes() -> None:
    """Metrics and measures narrow a stream; a metric that nobody has yet is waited for."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store) as service:
        stream = await open_watch(service, metrics=["SIM:NEW"], measures=[wire.MEASURE_PRICE])
        store.write(one())
        store.write(one(Series("SIM:NEW", Measure.VOLUME)))
        store.write(one(Series("SIM:NEW", Measure.PRICE), value=7.0))
        message = await with_points(stream)
        stream.cancel()

    assert list(message.metrics) == ["SIM:NEW"]
    assert list(message.values) == [7.0]


async def test_silence_is_broken_by_bookmarks() -> None:
    """A stream without points sends its cursor again and again."""
    times = WatchTimes(bookmark_seconds=0.02)
    async with serve(make_store(), watch_times=times) as service:
        stream = await open_watch(service)
        async with asyncio.timeout(30):
            cursors = {(await stream.read()).cursor for _ in range(5)}
        stream.cancel()

    assert len(cursors) == 1


async def test_resuming_misses_nothing() -> None:
    """A stream resumed at a cursor brings everything written since, with its last cursor moved on behind it."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store) as service:
        stream = await open_watch(service)
        store.write(one(value=1.5))
        seen = await with_points(stream)
        stream.cancel()
        for place in range(20):
            store.write(one(slot=LAST - place, value=100.0 + place))
        resumed = service.stub.WatchPoints(wire.WatchPointsRequest(cursor=seen.cursor))
        got = [await with_points(resumed) for _ in range(20)]
        resumed.cancel()
        again = await open_watch(service, cursor=got[-1].cursor)
        store.write(one(value=5.0))
        # The follower may be behind the store that the resumption read: then some points come twice.
        async with asyncio.timeout(30):
            while 5.0 not in (await with_points(again)).values:
                pass
        again.cancel()

    assert {m.slot_time.seconds // 60: m.values[0] for m in got} == {LAST - p: 100.0 + p for p in range(20)}
    assert {m.cursor for m in got[:-1]} == {seen.cursor}
    assert got[-1].cursor != seen.cursor


async def test_forged_cursors_are_refused() -> None:
    """A cursor that the store did not issue is INVALID_CURSOR, whether it looks like one or not."""
    async with serve(make_store()) as service:
        wrongs = [
            await failure(service.stub.WatchPoints(wire.WatchPointsRequest(cursor=cursor)).read())
            for cursor in ("nonsense", "memory.abcdef.12", "x" * 201, "with space", "\u00e9")
        ]

    assert {(w.code, w.reason, w.field) for w in wrongs} == {("INVALID_ARGUMENT", "INVALID_CURSOR", "cursor")}


async def test_streams_leave_unary_calls_their_threads() -> None:
    """With many more open streams than worker threads, unary calls and probes are still answered."""
    async with serve(make_store(make_market(["SIM:AAA"])), max_workers=2, max_streams=64) as service:
        streams = [await open_watch(service) for _ in range(64)]
        refused = await failure(service.stub.WatchPoints(wire.WatchPointsRequest()).read())
        answers = [await service.stub.ListMetrics(wire.ListMetricsRequest(), timeout=30) for _ in range(20)]
        for stream in streams:
            stream.cancel()

    assert len(answers) == 20
    assert refused[:3] == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS", "")
    assert refused.retry_seconds == 5


async def test_cancelled_streams_leave_nothing() -> None:
    """500 streams opened and cancelled leave no thread, no subscriber and no stream counted."""
    async with serve(make_store(), max_streams=256) as service:
        for _ in range(10):
            streams = [await open_watch(service) for _ in range(50)]
            for stream in streams:
                stream.cancel()

            async def open_streams() -> int:
                return sum(thread.name.startswith("tickwatch-stream") for thread in threading.enumerate())

            await eventually(open_streams, lambda count: count == 0)
        gc.collect()

        assert len(service.server.broadcast) == 0


async def test_a_slow_reader_is_ended_alone() -> None:
    """Who does not read is ended with SLOW_SUBSCRIBER and a cursor that resumes him; others notice nothing."""
    store = make_store(make_market(names(150), slots=2, measures=[Measure.PRICE]))
    everything = make_market(names(150), slots=1, measures=list(Measure))
    async with serve(store, queue_batches=3) as service:
        options = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
        async with grpc.aio.insecure_channel(service.server.address, options=options) as narrow:
            slow = query_pb2_grpc.QueryServiceStub(narrow).WatchPoints(wire.WatchPointsRequest())
            last = (await slow.read()).cursor
            quick = await open_watch(service)
            received = 0
            for _ in range(60):
                store.write(everything.points())
                received += len((await with_points(quick)).values)
            messages = 0
            while isinstance(message := await outcome(slow.read()), wire.WatchPointsResponse):
                messages, last = messages + 1, message.cursor
            quick.cancel()
        resumed = service.stub.WatchPoints(wire.WatchPointsRequest(cursor=last))
        caught_up = await with_points(resumed)
        resumed.cancel()

    assert isinstance(message, Wrong)
    assert message[:2] == ("RESOURCE_EXHAUSTED", "SLOW_SUBSCRIBER")
    assert received == 60 * 750
    assert messages < 60
    assert len(caught_up.values) == 750


async def test_old_streams_end_well_with_a_cursor() -> None:
    """A stream at its greatest age ends OK, its last message a cursor."""
    store = make_store()
    async with serve(store, watch_times=WatchTimes(longest_seconds=0.05)) as service:
        stream = service.stub.WatchPoints(wire.WatchPointsRequest())
        async with asyncio.timeout(30):
            messages = [message async for message in stream]

        assert await stream.code() == grpc.StatusCode.OK
        assert messages[-1].cursor


async def test_draining_ends_streams_with_a_cursor() -> None:
    """On drain a stream delivers what is queued and ends OK with the cursor behind it."""
    store = make_store()
    async with serve(store) as service:
        stream = await open_watch(service)
        store.write(one(value=9.0))
        await with_points(stream)
        await service.server.drain()
        async with asyncio.timeout(30):
            rest = await read_on(stream)

        assert await stream.code() == grpc.StatusCode.OK
        assert rest[-1].cursor


async def test_client_watch_outlives_its_streams() -> None:
    """A watch whose streams end every few moments has every point, once its duplicates replace one another."""
    store = make_store(make_market(["SIM:AAA"]))
    times = WatchTimes(longest_seconds=0.3, bookmark_seconds=0.05)
    expected = {LAST - place: float(place) for place in range(60)}
    got: dict[int, float] = {}
    async with serve(store, watch_times=times) as service, tickwatch.Client(service.server.address) as client:

        async def write() -> None:
            await started.wait()
            for slot, value in expected.items():
                store.write(one(slot=slot, value=value))
                await asyncio.sleep(0.02)  # spread over several streams' lives

        started = asyncio.Event()
        writer = asyncio.create_task(write())
        async with asyncio.timeout(30), aclosing(client.watch_points(["SIM:AAA"], ["price"], bookmarks=True)) as watch:
            async for batch in watch:
                started.set()
                if batch.time is not None:
                    got[int(batch.time.timestamp()) // 60] = float(batch.values[0])
                if got.keys() == expected.keys():
                    break
        await writer

    assert got == expected


async def test_client_watch_survives_a_restart_of_the_server() -> None:
    """A watch goes on when its server is replaced by another on the same address, and has what was written between."""
    store = make_store(make_market(["SIM:AAA"]))
    retries: list[tickwatch.Error] = []
    got: list[float] = []
    async with serve(store) as first:
        address = first.server.address
        client = tickwatch.Client(address, options=(("grpc.max_reconnect_backoff_ms", 200),))
        watch = client.watch_points(on_retry=lambda error, _: retries.append(error), bookmarks=True)
        assert len(await anext(watch)) == 0
        store.write(one(value=1.0))
        while not got:
            got.extend((await anext(watch)).values.tolist())
        pending = asyncio.ensure_future(anext(watch))
    store.write(one(slot=LAST - 1, value=2.0))
    async with serve(store, listen=address):
        async with asyncio.timeout(20):
            got.extend((await pending).values.tolist())
            while got[-1] != 2.0:
                got.extend((await anext(watch)).values.tolist())
        await watch.aclose()
        await client.close()

    assert got[0] == 1.0
    assert got[-1] == 2.0


async def test_watch_of_a_wrong_address_fails() -> None:
    """A watch that never reached anybody says so after the client's timeout instead of trying for ever."""
    async with tickwatch.Client("127.0.0.1:1", timeout_seconds=0.5) as client:
        with pytest.raises(tickwatch.UnavailableError):
            async with aclosing(client.watch_points()) as watch, asyncio.timeout(20):
                await anext(watch)


async def test_a_slot_of_many_points_is_several_messages() -> None:
    """No message has more than 10,000 points, and only the last of a slot carries the new cursor."""
    store = make_store()
    async with serve(store) as service:
        stream = await open_watch(service)
        store.write(make_market(names(12_000), slots=1, measures=[Measure.PRICE], end=Slot(LAST + 1)).points())
        first, second = await with_points(stream), await with_points(stream)
        stream.cancel()

    assert (len(first.values), len(second.values)) == (10_000, 2_000)
    assert first.cursor != second.cursor
    assert np.isfinite(first.values).all()
    assert NOW > first.slot_time.seconds
