"""The published client against a real server."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from typing import Any

import numpy as np
import pytest
import tickwatch
from prometheus_client import CollectorRegistry

from services.core.clock import ManualClock
from services.core.model import DAY_SLOTS, Measure, Series, Window
from tests.support.query import LAST, NOW, eventually, make_market, make_store, names, serve


async def test_history_comes_as_numpy() -> None:
    """A history has float64 values that nobody can change by mistake, and a time for each of them."""
    market = make_market(["SIM:AAA"], holes=0.1)
    async with serve(make_store(market)) as service, tickwatch.Client(service.server.address) as client:
        history = await client.get_history("SIM:AAA", "price")
        part = await client.get_history(
            "SIM:AAA",
            "volume",
            start=dt.datetime.fromtimestamp((LAST - 59) * 60, dt.UTC),
            end=np.datetime64((LAST + 1) * 60, "s"),
            interval=dt.timedelta(minutes=10),
            aggregation="max",
        )

    np.testing.assert_array_equal(
        history.values, market.expected(Series("SIM:AAA", Measure.PRICE), Window.ending(LAST + 1))
    )
    assert history.values.dtype == np.float64
    assert not history.values.flags.writeable
    assert list(map(repr, history.floats)) == list(map(repr, history.values.tolist()))
    assert history.times.dtype == np.dtype("datetime64[m]")
    assert history.times[-1] == np.datetime64(LAST * 60, "s")
    assert len(history.times) == DAY_SLOTS
    assert len(part.values) == 6
    assert part.interval == dt.timedelta(minutes=10)
    assert part.times[1] - part.times[0] == np.timedelta64(10, "m")


async def test_a_history_without_arrays_needs_no_numpy() -> None:
    """Who reads `floats` has every value, holes included, and waits for no import of numpy."""
    market = make_market(["SIM:AAA"], holes=0.1)
    code = (
        "import asyncio, sys, tickwatch\n"
        "async def ask():\n"
        "    async with tickwatch.Client(sys.argv[1]) as client:\n"
        "        return await client.get_history('SIM:AAA', 'price')\n"
        "floats = asyncio.run(ask()).floats\n"
        "print('numpy' in sys.modules, *floats)"
    )
    async with serve(make_store(market)) as service:
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, service.server.address, stdout=asyncio.subprocess.PIPE
        )
        told, _ = await asking.communicate()

    loaded, *floats = told.decode().split()
    expected = market.expected(Series("SIM:AAA", Measure.PRICE), Window.ending(LAST + 1))
    assert loaded == "False"
    assert floats == list(map(repr, expected.tolist()))


async def test_lists_and_rankings_come_whole() -> None:
    """The client walks pages by itself: 2,500 metrics are listed and ranked in order, or as many as were asked for."""
    market = make_market(names(2500), slots=3, measures=[Measure.PRICE])
    async with serve(make_store(market)) as service, tickwatch.Client(service.server.address) as client:
        listed = [metric.name async for metric in client.list_metrics()]
        ranked = await client.rank_metrics("price", window=dt.timedelta(minutes=3))
        best = await client.rank_metrics("price", window=dt.timedelta(minutes=3), limit=1200)

    assert listed == names(2500)
    assert [r.rank for r in ranked.rankings] == list(range(1, 2501))
    assert ranked.ranked_count == best.ranked_count == 2500
    assert best.rankings == ranked.rankings[:1200]


async def test_errors_are_typed() -> None:
    """What the service refuses arrives as an exception with code, reason, field and hint."""
    market = make_market(["SIM:AAA"])
    async with serve(make_store(market)) as service, tickwatch.Client(service.server.address) as client:
        with pytest.raises(tickwatch.MetricNotFoundError) as missing:
            await client.get_history("SIM:AAB", "price")
        with pytest.raises(tickwatch.InvalidInputError) as refused:
            await client.get_history("SIM:AAA", "price", interval=dt.timedelta(seconds=90))
        with pytest.raises(tickwatch.InvalidInputError, match="one of price, volume") as local:
            await client.get_history("SIM:AAA", "prize")
        with pytest.raises(tickwatch.InvalidInputError, match=r"interval: '5m' is no span of time .*timedelta"):
            await client.get_history("SIM:AAA", "price", interval="5m")  # type: ignore[arg-type]
        with pytest.raises(tickwatch.InvalidInputError, match=r"start_time: '12:00' is no time .*datetime"):
            await client.get_history("SIM:AAA", "price", start="12:00")  # type: ignore[arg-type]
        with pytest.raises(tickwatch.InvalidInputError, match=r"metrics: 'SIM:AAA' is one text"):
            await anext(client.watch_points("SIM:AAA"))
        with pytest.raises(tickwatch.InvalidInputError, match="no time zone"):
            await client.get_history("SIM:AAA", "price", start=dt.datetime(2026, 1, 1))  # noqa: DTZ001 - the very point

    assert (missing.value.code, missing.value.reason) == ("NOT_FOUND", "METRIC_NOT_FOUND")
    assert missing.value.similar == ("SIM:AAA",)
    assert (refused.value.code, refused.value.field) == ("INVALID_ARGUMENT", "interval")
    assert refused.value.problem == "interval: 90 s is not a whole number of minutes"
    assert refused.value.hint == "whole minutes from 60s to 86400s"
    assert local.value.field == "measure"


async def test_nobody_there_is_unavailable_in_time() -> None:
    """A call to an address where nobody listens fails as UnavailableError, within the deadline."""
    async with tickwatch.Client("127.0.0.1:1", timeout_seconds=1) as client:
        with pytest.raises((tickwatch.UnavailableError, tickwatch.DeadlineExceededError)):
            await client.get_history("SIM:AAA", "price")


async def test_a_rolling_restart_fails_no_call() -> None:
    """Calls go to all healthy servers in turn; one that drains is left before it stops, and no call notices."""
    store = make_store(make_market(["SIM:AAA"]))
    registries = [CollectorRegistry(), CollectorRegistry()]

    def answered(registry: CollectorRegistry) -> float:
        labels = {"grpc_type": "unary", "grpc_service": "tickwatch.v1.QueryService", "grpc_method": "GetHistory"}
        return registry.get_sample_value("grpc_server_handled_total", {**labels, "grpc_code": "OK"}) or 0

    clock = ManualClock(NOW)
    clock.sleep = asyncio.sleep  # type: ignore[method-assign]
    settings: dict[str, Any] = {"clock": clock, "drain_seconds": 0.3}
    async with (
        serve(store, registry=registries[0], **settings) as first,
        serve(store, registry=registries[1], **settings) as second,
        tickwatch.Client(f"ipv4:{first.server.address},{second.server.address}") as client,
    ):

        async def both() -> bool:
            await client.get_history("SIM:AAA", "price")
            return all(answered(registry) > 5 for registry in registries)

        await eventually(both, bool)
        draining = asyncio.create_task(first.server.drain())
        while not draining.done():
            await client.get_history("SIM:AAA", "price")
        stopped = answered(registries[0])
        for _ in range(50):
            await client.get_history("SIM:AAA", "price")

        assert answered(registries[0]) == stopped


@pytest.mark.parametrize(("scheme", "words"), [("", "still being loaded"), ("dns:///", "still loading")])
async def test_a_service_that_loads_says_so(scheme: str, words: str) -> None:
    """Who asks too early is told that the service is loading, by itself or, where a channel chooses, by the channel."""
    store = make_store()
    store.close()
    async with (
        serve(store, wait=False) as service,
        tickwatch.Client(f"{scheme}{service.server.address}", timeout_seconds=2) as client,
    ):
        with pytest.raises(tickwatch.UnavailableError, match=words) as error:
            await client.get_history("SIM:AAA", "price")

    assert error.value.reason == "NOT_READY"


async def test_one_address_is_asked_until_it_closes() -> None:
    """A plain HOST:PORT, as of a balancer, is asked while its server drains: nothing is refused that is answered."""
    drained, clock = asyncio.Event(), ManualClock(NOW)

    async def sleep(_seconds: float) -> None:
        await drained.wait()

    clock.sleep = sleep  # type: ignore[method-assign]
    async with serve(make_store(make_market(["SIM:AAA"])), clock=clock, drain_seconds=5.0) as service:
        async with tickwatch.Client(service.server.address, timeout_seconds=20) as client:
            await client.get_history("SIM:AAA", "price")
            draining = asyncio.create_task(service.server.drain())
            await asyncio.sleep(0)
            answers = [await client.get_history("SIM:AAA", "price") for _ in range(50)]
        serving = service.server.serving
        drained.set()
        await draining

    assert len(answers) == 50
    assert not serving
