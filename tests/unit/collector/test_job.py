"""Which slot a run is for, when the loop runs, and what an exit code says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import pytest

from services.collector import job
from services.collector.backfill import backfill, window_since
from services.collector.collecting import Collector
from services.collector.reporting import RunReport
from services.core.catalog.base import FixedCatalog, Market
from services.core.clock import ManualClock
from services.core.errors import InvalidInputError, InvalidSettingError, StoreUnavailableError
from services.core.model import Slot, Window, slot_time
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support.exchanges import ScriptedExchange

NOW = Slot(29_660_000)
SIM = FixedCatalog(Market("SIM", ("BTCUSD",)))


@pytest.fixture
def clock() -> ManualClock:
    """Three seconds after the slot has ended."""
    return ManualClock((NOW + 1) * 60 + 3)


@pytest.fixture
def store(clock: ManualClock) -> Iterator[MetricStore]:
    """An empty store on the same clock."""
    with open_store("memory:", clock=clock) as opened:
        yield opened


@pytest.mark.parametrize(
    ("slot", "name", "expected"),
    [
        (Slot(5), f"tickwatch-{NOW + 1}", 5),
        (None, f"tickwatch-{NOW - 9}", NOW - 10),
        (None, f"tickwatch-{NOW - 9}-abcde", NOW),
        (None, "tickwatch-manual", NOW),
        (None, "tickwatch-7", NOW),
        (None, "", NOW),
        (None, None, NOW),
    ],
)
def test_the_slot_of_a_run(slot: Slot | None, name: str | None, expected: int) -> None:
    """What is said, else the minute before the one in the Job's name, else the one that has just ended."""
    assert expected == job.slot_of_run(slot, name, (NOW + 1) * 60 + 59.9)


async def test_a_run_prints_one_line_and_returns_its_code(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 where all was written."""
    code = await job.run_once(store_url="memory:", catalog=SIM, clock=clock)

    told = json.loads(capsys.readouterr().out)
    assert (0, 0, "ok") == (code, told["exit_code"], told["exchanges"]["SIM"]["outcome"])
    assert 5 == told["points"]
    assert f"{slot_time(NOW):%Y-%m-%dT%H:%M:00Z}" == told["slot"]


async def test_a_run_a_moment_early_waits_for_its_slot_to_end(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock of a pod may be behind that of its scheduler."""
    clock.set((NOW + 1) * 60 - 2)

    assert 0 == await job.run_once(store_url="memory:", catalog=SIM, clock=clock, slot=NOW)
    assert "ok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"store_url": "nonsense"}, 2, "nonsense"),
        ({"catalog": FixedCatalog(Market("KRAKN", ("BTCUSD",)))}, 2, "did you mean KRAKEN?"),
        ({"slot": Slot(NOW + 5)}, 2, "has not ended yet"),
        ({"shard": (3, 3)}, 2, "3/3 is no part of a whole"),
        ({"exchange_options": {"nowhere": None}}, 2, "'nowhere' is not an exchange"),
        ({"store_url": "sqlite:/proc/nowhere/a.db"}, 2, "/proc/nowhere"),
    ],
)
async def test_what_cannot_be_run_is_told_in_one_line(
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
    arguments: dict[str, object],
    code: int,
    words: str,
) -> None:
    """2 is for who configured it, 3 for who runs the store."""
    given: dict[str, object] = {"store_url": "memory:", "catalog": SIM, "clock": clock}

    assert code == await job.run_once(**(given | arguments))  # type: ignore[arg-type]  # wrong on purpose
    told = json.loads(capsys.readouterr().out)
    assert code == told["exit_code"]
    assert words in told["error"]


def collector_of(store: MetricStore, clock: ManualClock, exchange: ScriptedExchange) -> Collector:
    """A collector on one scripted exchange."""
    return Collector(
        reader=store,
        writer=store,
        catalog=FixedCatalog(Market(exchange.name, ("BTCUSD",))),
        exchange_options={},
        clock=clock,
        exchanges={exchange.name: exchange},
    )


async def test_the_loop_runs_a_moment_after_each_minute(store: MetricStore, clock: ManualClock) -> None:
    """At once for the minute that has ended, then two seconds after each next one, and never the same slot twice."""
    stop = asyncio.Event()
    runs: list[tuple[Slot, float]] = []

    def on_report(report: RunReport) -> None:
        runs.append((report.slot, clock.now()))
        if len(runs) == 3:
            stop.set()

    collector = collector_of(store, clock, ScriptedExchange("SIM", Slot(NOW + 100)))
    await job.run_loop(collector, clock=clock, stop=stop, on_report=on_report)

    assert [(NOW, (NOW + 1) * 60 + 3), (NOW + 1, (NOW + 2) * 60 + 2), (NOW + 2, (NOW + 3) * 60 + 2)] == runs


async def test_the_loop_lets_a_missed_minute_go(store: MetricStore, clock: ManualClock) -> None:
    """After a run that took three minutes the newest slot is next; what is between is repaired, not run."""
    stop = asyncio.Event()
    slots: list[Slot] = []

    def on_report(report: RunReport) -> None:
        slots.append(report.slot)
        clock.advance(180)
        if len(slots) == 2:
            stop.set()

    collector = collector_of(store, clock, ScriptedExchange("SIM", Slot(NOW + 100)))
    await job.run_loop(collector, clock=clock, stop=stop, on_report=on_report)

    assert [NOW, NOW + 3] == slots


async def test_the_loop_outlives_a_store_out_of_reach(
    store: MetricStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next minute is tried."""
    stop = asyncio.Event()
    collector = collector_of(store, clock, ScriptedExchange("SIM", Slot(NOW + 100)))
    collect, failures = collector.collect, [StoreUnavailableError("x", "away")]

    async def failing(slot: Slot) -> RunReport:
        if failures:
            raise failures.pop()
        return await collect(slot)

    collector.collect = failing  # type: ignore[method-assign]  # the store comes back between two runs
    await job.run_loop(collector, clock=clock, stop=stop, on_report=lambda _: stop.set())

    assert "x: away" in caplog.text


async def test_the_loop_ends_with_a_wrong_configuration(store: MetricStore, clock: ManualClock) -> None:
    """Waiting does not cure it."""
    collector = collector_of(store, clock, ScriptedExchange("KRAKN", NOW))
    with pytest.raises(InvalidSettingError):
        await job.run_loop(collector, clock=clock, stop=asyncio.Event())


async def test_stopping_the_loop_cancels_a_run(store: MetricStore, clock: ManualClock) -> None:
    """A run that waits for its exchange lets go, reports nothing and stores nothing."""
    stop, exchange = asyncio.Event(), ScriptedExchange("SIM", NOW)
    exchange.gate = asyncio.Event()
    loop = asyncio.create_task(job.run_loop(collector_of(store, clock, exchange), clock=clock, stop=stop))
    while not exchange.questions("candles"):  # noqa: ASYNC110  what the run is at is seen from outside only
        await asyncio.sleep(0)
    stop.set()
    await loop

    assert () == store.list_series() == store.latest_runs()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_forever_ends_with_a_signal(
    clock: ManualClock, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """With 0, after the lines of the runs it made."""

    class StoppingClock(ManualClock):
        async def sleep(self, seconds: float) -> None:
            os.kill(os.getpid(), number)
            await asyncio.sleep(3600)

    assert 0 == await job.run_forever(store_url="memory:", catalog=SIM, clock=StoppingClock(clock.now()))
    (line,) = capsys.readouterr().out.splitlines()
    assert 0 == json.loads(line)["exit_code"]


def test_a_backfill_of_more_than_is_kept_is_refused() -> None:
    """Thirty days are what a store keeps."""
    assert Window.ending(NOW + 1, 43_200) == window_since(43_200, (NOW + 1) * 60.0)
    for length in (0, 43_201):
        with pytest.raises(InvalidInputError, match=f"since: {length} minutes is out of range"):
            window_since(length, (NOW + 1) * 60.0)


async def test_a_backfill_of_all_that_is_kept(store: MetricStore, clock: ManualClock) -> None:
    """It loses none of it but the minutes that leave the store while it works."""
    async with job.open_collector(store, catalog=SIM, clock=clock) as collector:
        report = await backfill(collector, window_since(43_200, clock.now()))

    assert {} == report.failures
    # The first 1439 slots have no day of minutes before them to sum up.
    assert 5 * 43_200 - 1439 - 20 <= report.point_count <= 5 * 43_200 - 1439
    assert 0 == json.loads(report.to_json())["exit_code"]
