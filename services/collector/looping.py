"""A run after every minute, for as long as a process lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from services.collector.collecting import Collector
from services.collector.reporting import RunReport
from services.collector.tasks import in_thread
from services.core.clock import Clock
from services.core.errors import InvalidInputError, TickwatchError
from services.core.model import SLOT_SECONDS, Slot, last_complete_slot

_logger = logging.getLogger(__name__)


async def run_loop(
    collector: Collector,
    *,
    clock: Clock,
    stop: asyncio.Event,
    settle_seconds: float = 2.0,
    on_report: Callable[[RunReport], None] | None = None,
) -> None:
    """Make a run `settle_seconds` after each minute's end, one after the other, until `stop` is set.

    The first run is made at once. A minute that was missed, because a run took long or the machine slept, is not run
    again: the next run repairs it. A run that fails is logged; InvalidInputError, which waiting does not cure, is
    raised. When `stop` is set a run in progress is cancelled at its next wait.
    """
    stopping = asyncio.create_task(stop.wait(), name="collector-stop")
    try:
        done: Slot | None = None
        while not stop.is_set():
            slot = last_complete_slot(clock.now() - settle_seconds)
            if slot != done:
                running = asyncio.create_task(_one_of_loop(collector, slot, on_report), name="collector-run")
                await _first_of(running, stopping)
                done = slot
            due = (slot + 2) * SLOT_SECONDS + settle_seconds
            if clock.now() < due and not stop.is_set():
                await _first_of(asyncio.create_task(clock.sleep(due - clock.now()), name="collector-sleep"), stopping)
    finally:
        stopping.cancel()
        await asyncio.wait([stopping])


async def _one_of_loop(collector: Collector, slot: Slot, on_report: Callable[[RunReport], None] | None) -> None:
    try:
        report = await collector.collect(slot)
        await in_thread(collector.writer.expire)
    except InvalidInputError:
        raise
    except TickwatchError as error:
        _logger.error("the run failed; the next one repairs it: %s", error)  # noqa: TRY400  the words say it all
        return
    if on_report:
        on_report(report)


async def _first_of(task: asyncio.Task[None], stopping: asyncio.Task[bool]) -> None:
    """Wait for the task; where the stop comes first, cancel it and wait for its end. Raises what the task raised."""
    try:
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
