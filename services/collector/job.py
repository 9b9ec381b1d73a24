"""The collector's composition root: from arguments to a run, or to a loop of runs, and to an exit code.

It reads no environment: whoever calls it passes the settings in. What a run prints on standard output is one JSON line;
everything else goes to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

from services.collector.collecting import DEADLINE_SECONDS, Collector
from services.collector.exchanges.base import ExchangeOptions
from services.collector.looping import run_loop as run_loop  # noqa: PLC0414  part of what this module offers
from services.collector.tasks import in_thread
from services.core.catalog.base import Catalog
from services.core.clock import Clock, SystemClock
from services.core.errors import (
    ClusterRefusedError,
    ClusterUnavailableError,
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    TickwatchError,
)
from services.core.model import SLOT_SECONDS, Slot, last_complete_slot
from services.core.store.base import MetricStore
from services.core.store.opening import open_store

EXIT_OK, EXIT_PARTIAL, EXIT_CONFIGURATION, EXIT_STORE = 0, 1, 2, 3
EXIT_TERMINATED = 128 + signal.SIGTERM

_EARLY_SECONDS = 5.0
_logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_collector(
    store: MetricStore,
    *,
    catalog: Catalog,
    exchange_options: Mapping[str, ExchangeOptions] | None = None,
    shard: tuple[int, int] = (0, 1),
    clock: Clock | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> AsyncIterator[Collector]:
    """Open a collector on a store, which stays open afterwards; closes the exchanges at the end.

    `exchange_options` are by exchange in any case (`kraken`, `SIM`, `simulated`). Raises InvalidSettingError for an
    exchange that there is not, InvalidInputError for an impossible shard.
    """
    collector = Collector(
        reader=store,
        writer=store,
        catalog=catalog,
        exchange_options=exchange_options or {},
        clock=clock or SystemClock(),
        shard=shard,
        deadline_seconds=deadline_seconds,
    )
    try:
        yield collector
    finally:
        await collector.close()


async def run_once(
    *,
    store_url: str,
    store_token: str | None = None,
    store_timeout_seconds: float = 10.0,
    catalog: Catalog,
    exchange_options: Mapping[str, ExchangeOptions] | None = None,
    slot: Slot | None = None,
    job_name: str | None = None,
    shard: tuple[int, int] = (0, 1),
    clock: Clock | None = None,
) -> int:
    """Make one run, print its JSON line, return the exit code.

    0: all written. 1: some exchange or pair failed. 2: wrong configuration, a store that refuses included. 3: the
    store, or the cluster that has the catalog, is out of reach. 143: SIGTERM came first; then nothing is printed, and
    the next run completes this one.
    The slot is `slot`, else the one that the job's name tells, else the one that has just ended.
    """
    clock = clock or SystemClock()

    async def run() -> int:
        chosen = slot_of_run(slot, job_name, clock.now())
        await _wait_until_ended(chosen, clock)
        async with _opened_store(store_url, store_token, store_timeout_seconds, clock) as store:
            opened = open_collector(store, catalog=catalog, exchange_options=exchange_options, shard=shard, clock=clock)
            async with opened as collector:
                report = await collector.collect(chosen)
            await in_thread(store.expire)
        _print(report.to_json())
        return report.exit_code

    return await _until_terminated(run())


async def run_forever(
    *,
    store_url: str,
    store_token: str | None = None,
    store_timeout_seconds: float = 10.0,
    catalog: Catalog,
    exchange_options: Mapping[str, ExchangeOptions] | None = None,
    shard: tuple[int, int] = (0, 1),
    settle_seconds: float = 2.0,
    clock: Clock | None = None,
) -> int:
    """Make a run after every minute, each with its JSON line, until SIGTERM or SIGINT; then return 0.

    Exits with 2 for a wrong configuration, as `run_once` does; a store out of reach is logged and waited for.
    """
    clock = clock or SystemClock()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async def run() -> int:
        async with _opened_store(store_url, store_token, store_timeout_seconds, clock) as store:
            opened = open_collector(store, catalog=catalog, exchange_options=exchange_options, shard=shard, clock=clock)
            async with opened as collector:
                await run_loop(
                    collector,
                    clock=clock,
                    stop=stop,
                    settle_seconds=settle_seconds,
                    on_report=lambda report: _print(report.to_json()),
                )
        return EXIT_OK

    try:
        return await _reported(run())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def slot_of_run(slot: Slot | None, job_name: str | None, now: float) -> Slot:
    """Return the slot that a run is for.

    `slot` where it is given; else the slot before the minute that the job's name ends in; else the slot that has just
    ended. Kubernetes names a CronJob's Jobs by their scheduled minute since the epoch
    (https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/); a name without such an end, as of a Job
    made by hand, says nothing.
    """
    if slot is not None:
        return slot
    found = re.search(r"-(\d{8,9})$", job_name or "")
    return Slot(int(found[1]) - 1) if found else last_complete_slot(now)


@contextlib.asynccontextmanager
async def _opened_store(
    url: str, token: str | None, timeout_seconds: float, clock: Clock
) -> AsyncIterator[MetricStore]:
    store = await in_thread(open_store, url, token=token, timeout_seconds=timeout_seconds, clock=clock)
    try:
        yield store
    finally:
        await in_thread(store.close)


async def _wait_until_ended(slot: Slot, clock: Clock) -> None:
    """A pod's clock may be a moment behind its scheduler's; what is farther off is refused by the run."""
    early = (slot + 1) * SLOT_SECONDS - clock.now()
    if 0 < early <= _EARLY_SECONDS:
        await clock.sleep(early)


async def _until_terminated(run: Coroutine[Any, Any, int]) -> int:
    """Run until SIGTERM, which cancels at the next wait; a second one changes nothing, for the end is under way."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(_reported(run), name="collector-run")
    terminated = asyncio.Event()

    def terminate() -> None:
        if not terminated.is_set():
            terminated.set()
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated.is_set():
            return EXIT_TERMINATED
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _reported(run: Coroutine[Any, Any, int]) -> int:
    """Turn what ends a run into its exit code and the JSON line that says why."""
    try:
        return await run
    except (InvalidInputError, StoreRefusedError, ClusterRefusedError) as error:
        return _failed(error, EXIT_CONFIGURATION)
    except (StoreUnavailableError, ClusterUnavailableError) as error:
        return _failed(error, EXIT_STORE)


def _failed(error: TickwatchError, code: int) -> int:
    _print(json.dumps({"error": str(error), "exit_code": code}, ensure_ascii=False))
    return code


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
