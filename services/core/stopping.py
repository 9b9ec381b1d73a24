"""How a process that stays up is asked to end: SIGINT or SIGTERM set an event; nothing is interrupted midway."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """Give an event that SIGINT or SIGTERM sets while the context lasts; a second signal changes nothing.

    Needs a running loop in the main thread.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def until_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run the work to its end, or cancel it when `stop` is set; raises what it raises."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, stopping):
            each.cancel()
        await asyncio.wait([task, stopping])
    if not task.cancelled():
        task.result()
