"""The server around the service: health, reflection, keepalive, retries, metrics, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import aclosing

import grpc
import numpy as np
import pytest
import tickwatch
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client import CollectorRegistry
from tickwatch import channels
from tickwatch.v1 import query_pb2 as wire

from services.core.clock import ManualClock
from services.core.errors import InvalidSettingError
from services.core.model import DAY_SLOTS, Measure, Series
from services.core.rpc import server as rpc_server
from services.core.rpc.access import Protection
from services.core.rpc.serving import Serving
from services.core.streaming import WatchTimes
from services.core.telemetry import serve_metrics
from services.query.server import open_query_server
from tests.support.needs import ROOT, require_program
from tests.support.query import LAST, NOW, Wrong, eventually, failure, make_market, make_store, record_run, serve

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NAMES = ("", "tickwatch.v1.QueryService")


async def status_of(call: object) -> int:
    """Return the next status of a health watch."""
    async with asyncio.timeout(30):
        return (await call.read()).status  # type: ignore[attr-defined,no-any-return]


async def test_health_is_not_serving_until_loaded() -> None:
    """Each name is NOT_SERVING until the window is filled, then SERVING; a watch says both and stays open."""
    store = make_store()
    load, original = threading.Event(), store.mark

    def mark() -> object:
        load.wait(10)
        return original()

    store.mark = mark  # type: ignore[method-assign,assignment]
    async with serve(store, wait=False) as service:
        health = health_pb2_grpc.HealthStub(service.channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in NAMES]
        before = [await status_of(watch) for watch in watches]
        checked = [(await health.Check(health_pb2.HealthCheckRequest(service=name))).status for name in NAMES]
        load.set()
        after = [await status_of(watch) for watch in watches]
        listed = await health.List(health_pb2.HealthListRequest())
        drained = asyncio.create_task(service.server.drain())
        end = [await status_of(watch) for watch in watches]
        rest = [await watch.read() for watch in watches]
        await drained

    assert before == checked == [NOT_SERVING, NOT_SERVING]
    assert after == [SERVING, SERVING]
    assert {name: status.status for name, status in listed.statuses.items()} == dict.fromkeys(
        (*NAMES, "liveness"), SERVING
    )
    assert end == [NOT_SERVING, NOT_SERVING]
    assert rest == [grpc.aio.EOF, grpc.aio.EOF]


async def test_liveness_is_of_the_process_alone() -> None:
    """A server whose store does not answer is NOT_SERVING and alive all the same: killing it would help nobody."""
    load, store = threading.Event(), make_store()
    original = store.mark

    def mark() -> object:
        load.wait(10)
        return original()

    store.mark = mark  # type: ignore[method-assign,assignment]
    async with serve(store, wait=False) as service:
        health = health_pb2_grpc.HealthStub(service.channel)
        ready = (await health.Check(health_pb2.HealthCheckRequest())).status
        alive = (await health.Check(health_pb2.HealthCheckRequest(service="liveness"))).status
        load.set()

    assert ready == NOT_SERVING
    assert alive == SERVING


async def test_health_of_unknown_names() -> None:
    """Watch stays open with SERVICE_UNKNOWN for a name that is not here; Check says NOT_FOUND (gRFC A17)."""
    async with serve(make_store()) as service:
        health = health_pb2_grpc.HealthStub(service.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="nobody"))
        status = await status_of(watch)
        wrong = await failure(health.Check(health_pb2.HealthCheckRequest(service="nobody")))
        pending = asyncio.ensure_future(watch.read())
        await health.Check(health_pb2.HealthCheckRequest())  # a round trip, after which the watch is still open
        still_open = not pending.done()
        watch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending

    assert status == SERVICE_UNKNOWN
    assert wrong[:2] == ("NOT_FOUND", "SERVICE_UNKNOWN")
    assert still_open


async def test_watchers_of_health_cost_no_threads() -> None:
    """Hundreds of health watches take neither a thread each nor a place among the streams, and leave nothing."""
    async with serve(make_store(), max_workers=2, max_streams=1) as service:
        health = health_pb2_grpc.HealthStub(service.channel)
        before = threading.active_count()
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(300)]
        statuses = [await status_of(watch) for watch in watches]
        grown = threading.active_count() - before
        stream = service.stub.WatchPoints(wire.WatchPointsRequest())
        bookmark = await stream.read()
        stream.cancel()
        for watch in watches:
            watch.cancel()

        async def watching() -> int:
            return service.server.health_watchers

        await eventually(watching, lambda count: count == 0)

    assert statuses == [SERVING] * 300
    assert grown <= 2
    assert bookmark.cursor


@pytest.mark.parametrize("path", ["/tickwatch.v1.QueryService/GetHistories", "/tickwatch.v2.QueryService/GetHistory"])
async def test_unknown_methods_are_refused_like_all_else(path: str) -> None:
    """A method that is not here is UNIMPLEMENTED with ErrorInfo, for unary calls and streams alike."""
    problem = f"no method {path!r} is served here; a server of another version or of another service may"
    wrong = Wrong("UNIMPLEMENTED", "METHOD_UNKNOWN", "", problem)
    async with serve(make_store()) as service:
        assert await failure(service.channel.unary_unary(path)(b"")) == wrong
        assert await failure(service.channel.unary_stream(path)(b"").read()) == wrong
        assert await failure(service.channel.stream_unary(path)()) == wrong


def test_reflection_describes_the_service() -> None:
    """A reflection client finds the services and their methods (v1alpha, as grpc_reflection speaks it)."""

    async def body() -> tuple[list[str], list[str]]:
        async with serve(make_store()) as service:
            return await asyncio.to_thread(describe, service.server.address)

    def describe(address: str) -> tuple[list[str], list[str]]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(database)
            found = pool.FindServiceByName("tickwatch.v1.QueryService")
            return sorted(database.get_services()), [method.name for method in found.methods]

    services, methods = asyncio.run(body())

    assert services == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "tickwatch.v1.QueryService",
    ]
    assert methods == ["ListMetrics", "GetHistory", "RankMetrics", "WatchPoints"]


async def test_reflection_v1_is_served() -> None:
    """Newer tools ask for grpc.reflection.v1 first; its own descriptor is there too."""
    async with serve(make_store()) as service:
        call = service.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        answers = []
        for symbol in ("tickwatch.v1.QueryService.GetHistory", "grpc.reflection.v1.ServerReflection"):
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
            answers.append((await call.read()).file_descriptor_response)
        await call.done_writing()

        assert await call.code() == grpc.StatusCode.OK
    assert all(answer.file_descriptor_proto for answer in answers)


async def test_reflection_can_be_off() -> None:
    """Without reflection the service is there and its description is not."""
    async with serve(make_store(), reflection=False) as service:
        call = service.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")()
        await service.stub.ListMetrics(wire.ListMetricsRequest())

        assert await call.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_grpcurl_finds_and_calls() -> None:
    """`grpcurl` lists the service by reflection and calls it, as the README tells a newcomer."""
    grpcurl = require_program("grpcurl")
    async with serve(make_store(make_market(["SIM:AAA"]))) as service:

        async def run(*arguments: str) -> str:
            process = await asyncio.create_subprocess_exec(
                grpcurl, "-plaintext", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            output, _ = await process.communicate()
            return output.decode()

        listed = await run(service.server.address, "list")
        answer = await run(service.server.address, "tickwatch.v1.QueryService/ListMetrics")

    assert "tickwatch.v1.QueryService" in listed
    assert json.loads(answer)["metrics"][0]["name"] == "SIM:AAA"


@pytest.mark.parametrize(("least_seconds", "most_beats", "ended"), [(60, 400, True), (0.5, 100, False)])
async def test_too_many_pings_are_sent_away_and_the_pair_is_not(
    monkeypatch: pytest.MonkeyPatch, least_seconds: float, most_beats: int, *, ended: bool
) -> None:
    """The server's limit of pings is in force, and a client that keeps its distance from it stays."""
    monkeypatch.setattr(rpc_server, "LEAST_PING_INTERVAL_SECONDS", least_seconds)
    options = (
        ("grpc.keepalive_time_ms", 1000),  # gRPC pings no more often
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with (
        serve(make_store(), watch_times=WatchTimes(bookmark_seconds=0.05)) as service,
        grpc.aio.insecure_channel(service.server.address, options=options) as channel,
    ):
        # Of a bookmark-less stream, because data would reset the server's count of pings.
        call = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        await call.read()
        beat = service.stub.WatchPoints(wire.WatchPointsRequest())
        reading = asyncio.ensure_future(call.read())
        for _ in range(most_beats):
            await beat.read()
            if reading.done():
                break
        beat.cancel()
        if not (gone := reading.done()):
            call.cancel()
        with pytest.raises(grpc.aio.AioRpcError if gone else asyncio.CancelledError) as error:
            await reading

    assert gone == ended
    assert not gone or "Too many pings" in str(error.value)


async def test_the_client_retries_what_is_unavailable() -> None:
    """A call that meets a server still loading succeeds once it has loaded, by the channel's own retries."""
    store = make_store(make_market(["SIM:AAA"]))
    load, original = threading.Event(), store.mark

    def mark() -> object:
        load.wait(10)
        return original()

    store.mark = mark  # type: ignore[method-assign,assignment]
    registry = CollectorRegistry()
    async with serve(store, wait=False, registry=registry) as service:
        # Without client-side health checks the call reaches the server and is refused there first.
        config: dict[str, object] = {**channels.service_config(channels.QUERY)}
        del config["healthCheckConfig"]
        options = (("grpc.service_config", json.dumps(config)),)
        async with tickwatch.Client(service.server.address, options=options) as client:
            call = asyncio.ensure_future(client.get_history("SIM:AAA", "price"))

            async def refused() -> float:
                labels = ("unary", "tickwatch.v1.QueryService", "GetHistory", "UNAVAILABLE")
                names = ("grpc_type", "grpc_service", "grpc_method", "grpc_code")
                return (
                    registry.get_sample_value("grpc_server_handled_total", dict(zip(names, labels, strict=True))) or 0
                )

            await eventually(refused, lambda count: count >= 1)
            load.set()
            history = await call

    assert len(history.values) == DAY_SLOTS


async def test_every_call_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """The access log has path, code, time and peer of each call as fields."""
    caplog.set_level("DEBUG", "tickwatch.rpc")
    async with serve(make_store()) as service:
        await service.stub.ListMetrics(wire.ListMetricsRequest())
        await failure(service.stub.ListMetrics(wire.ListMetricsRequest(page_size=-1)))
    calls = [vars(record) for record in caplog.records if record.name == "tickwatch.rpc"]

    assert [(c["path"], c["code"]) for c in calls] == [
        ("/tickwatch.v1.QueryService/ListMetrics", "OK"),
        ("/tickwatch.v1.QueryService/ListMetrics", "INVALID_ARGUMENT"),
    ]
    assert all(c["seconds"] >= 0 and c["peer"].startswith("ipv4:127.0.0.1:") for c in calls)


async def test_metrics_tell_calls_window_and_freshness() -> None:
    """A scrape has calls and latency by code, the window's size, the follower's lag and how fresh each exchange is."""
    registry = CollectorRegistry()
    clock = ManualClock(NOW)
    store = make_store(make_market(["SIM:AAA"]))
    record_run(store, LAST, "KRAKEN")
    async with serve(store, registry=registry, clock=clock) as service:
        await service.stub.ListMetrics(wire.ListMetricsRequest())
        await service.stub.ListMetrics(wire.ListMetricsRequest())
        await failure(service.stub.ListMetrics(wire.ListMetricsRequest(page_size=-1)))
        stream = service.stub.WatchPoints(wire.WatchPointsRequest())
        await stream.read()
        with serve_metrics("127.0.0.1:0", registry) as port:
            url = f"http://127.0.0.1:{port}/metrics"
            body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read().decode())
        stream.cancel()
    lines = set(body.splitlines())
    method = 'grpc_method="ListMetrics",grpc_service="tickwatch.v1.QueryService",grpc_type="unary"'

    assert f"grpc_server_started_total{{{method}}} 3.0" in lines
    assert f'grpc_server_handled_total{{grpc_code="OK",{method}}} 2.0' in lines
    assert f'grpc_server_handled_total{{grpc_code="INVALID_ARGUMENT",{method}}} 1.0' in lines
    assert f'grpc_server_handling_seconds_count{{grpc_code="OK",{method}}} 2.0' in lines
    assert f'grpc_server_handling_seconds_bucket{{grpc_code="INVALID_ARGUMENT",{method},le="+Inf"}} 1.0' in lines
    assert "tickwatch_answers_computed_total 1.0" in lines
    assert "tickwatch_window_series 2.0" in lines
    assert f"tickwatch_window_bytes {2 * 1536 * 9:.1f}" in lines
    assert "tickwatch_follower_lag_seconds 0.0" in lines
    assert f'tickwatch_exchange_newest_point_age_seconds{{exchange="SIM"}} {NOW - (LAST + 1) * 60}' in lines
    assert f'tickwatch_exchange_last_run_age_seconds{{exchange="KRAKEN"}} {NOW - (LAST + 1) * 60 - 5}' in lines
    assert any(line.startswith("tickwatch_rpc_open_streams") and line.endswith(" 1.0") for line in lines)


async def test_a_taken_port_is_named() -> None:
    """A server that cannot listen says where, and leaves no thread."""
    async with serve(make_store()) as service:
        with pytest.raises(InvalidSettingError, match=f"cannot listen on 127.0.0.1:{service.server.port}"):
            async with open_query_server(Serving(listen=service.server.address), reader=make_store()):
                pass
        with pytest.raises(InvalidSettingError, match="HOST:PORT, as in"):
            async with open_query_server(Serving(listen="localhost"), reader=make_store()):
                pass
        taken = Protection(health_listen=service.server.address)
        for serving, setting in (
            (Serving(listen=service.server.address, role="query"), "query.listen"),
            (Serving(listen="127.0.0.1:0", role="query", protection=taken), "query.health_listen"),
        ):
            with pytest.raises(InvalidSettingError) as caught:
                async with open_query_server(serving, reader=make_store()):
                    pass
            assert caught.value.field == setting


async def test_two_servers_share_a_port() -> None:
    """With `reuse_port` several may listen on one port, which is how more processes will use more cores."""
    store = make_store(make_market(["SIM:AAA"]))
    async with (
        serve(store, reuse_port=True) as first,
        serve(store, reuse_port=True, listen=first.server.address) as second,
    ):
        assert first.server.port == second.server.port
        assert (await second.stub.ListMetrics(wire.ListMetricsRequest())).metrics


async def test_draining_keeps_calls_until_the_delay_is_over() -> None:
    """After NOT_SERVING calls are still answered for the drain delay; a second drain waits for the first."""
    clock = ManualClock(NOW)
    gate, slept = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == 7
        slept.set()
        await gate.wait()

    clock.sleep = sleep  # type: ignore[method-assign]
    async with serve(make_store(make_market(["SIM:AAA"])), clock=clock, drain_seconds=7) as service:
        draining = [asyncio.create_task(service.server.drain()) for _ in range(2)]
        await slept.wait()
        answer = await service.stub.ListMetrics(wire.ListMetricsRequest())
        serving = service.server.serving
        gate.set()
        await asyncio.gather(*draining)
        await service.server.wait()
        with pytest.raises(grpc.aio.AioRpcError) as after:
            await service.stub.ListMetrics(wire.ListMetricsRequest())

    assert answer.metrics
    assert not serving
    assert after.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_sigterm_under_load_loses_no_accepted_call() -> None:
    """Every call that the server took is answered, and callers with the published client are never broken off.

    What arrives in the moment of the stop is not taken: gRPC answers it with UNAVAILABLE, or with CANCELLED where it
    was waiting to be taken. The published client has left by then, because it watches the health.
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.query_process", stdout=subprocess.PIPE, cwd=ROOT, env=environment
    )
    assert process.stdout is not None
    raw, published = Counter[str](), Counter[str]()
    running = asyncio.Event()
    long_ago = (int(NOW) // 60 - 30 * DAY_SLOTS) * 60

    async def call_raw(address: str, request: wire.GetHistoryRequest) -> None:
        options = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            method = channel.unary_unary("/tickwatch.v1.QueryService/GetHistory")
            while not raw["UNAVAILABLE"]:
                try:
                    await method(request.SerializeToString())
                    raw["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    raw[error.code().name] += 1

    async def call_published(address: str, start: np.datetime64 | None) -> None:
        async with tickwatch.Client(address, options=(("grpc.use_local_subchannel_pool", 1),)) as client:
            while not published["UNAVAILABLE"]:
                try:
                    await client.get_history("SIM:AAA", "price", start=start)
                    published["OK"] += 1
                    running.set()
                except tickwatch.Error as error:
                    published[error.code] += 1

    async with asyncio.timeout(60):
        address = f"127.0.0.1:{int(await process.stdout.readline())}"
        request = wire.GetHistoryRequest(metric="SIM:AAA", measure=1)
        slow = wire.GetHistoryRequest(metric="SIM:AAA", measure=1, start_time={"seconds": long_ago})
        callers = [
            asyncio.create_task(call)
            for _ in range(2)
            for call in (
                call_raw(address, request),
                call_raw(address, slow),
                call_published(address, None),
                call_published(address, np.datetime64(long_ago, "s")),
            )
        ]
        await running.wait()
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*callers)
        counts = json.loads(await process.stdout.readline())
        code = await process.wait()

    assert code == 0
    assert raw["OK"] + published["OK"] == counts["OK"] == counts["started"] > 0
    assert counts["failed"] == 0
    assert set(raw) <= {"OK", "UNAVAILABLE", "CANCELLED"}
    assert set(published) == {"OK", "UNAVAILABLE"}


async def test_lists_survive_an_outage_of_the_store_for_the_client() -> None:
    """The client's calls that memory can answer go on while the store is closed."""
    store = make_store(make_market(["SIM:AAA"], measures=[Measure.PRICE]))
    async with serve(store) as service, tickwatch.Client(service.server.address) as client:
        store.close()
        async with aclosing(client.list_metrics()) as metrics:
            listed = [metric.name async for metric in metrics]
        ranked = await client.rank_metrics("price")

    assert listed == ["SIM:AAA"]
    assert [r.metric for r in ranked.rankings] == ["SIM:AAA"]
    assert Series("SIM:AAA", Measure.PRICE).metric == listed[0]
