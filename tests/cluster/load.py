"""Ask a query service without a pause, and watch it, until SIGTERM; then print what happened as one JSON line.

Each slot that a watch brings is printed as it comes.

Runs in a pod, with the published client, through the headless Service (`TARGETS`, separated by commas, may name others
besides): as the services of a user would.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import aclosing

import tickwatch

PAUSE_SECONDS = 0.05
DEADLINE_SECONDS = 20.0
"""A busy machine may be slow; what counts is that no call fails."""


def say(line: str) -> None:
    """Put a line into the pod's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def ask(target: str, stop: asyncio.Event, report: dict[str, list[str] | int]) -> None:
    """Call every unary method in turn."""
    async with tickwatch.Client(target, timeout_seconds=DEADLINE_SECONDS) as client:
        while not stop.is_set():
            for name in ("list", "history", "rank"):
                try:
                    if name == "list":
                        metrics = [metric.name async for metric in client.list_metrics()]
                    elif name == "history":
                        await client.get_history(metrics[0], "price")
                    else:
                        await client.rank_metrics("price")
                except tickwatch.Error as error:
                    report["failures"].append(f"{target} {name}: {error}")
                report["calls"] += 1
            await asyncio.sleep(PAUSE_SECONDS)


async def watch(target: str, report: dict[str, list[str] | int]) -> None:
    """Watch points, noting the slots and every break."""

    def broken(error: tickwatch.Error, _pause: float) -> None:
        report["breaks"].append(str(error))

    async with tickwatch.Client(target, timeout_seconds=DEADLINE_SECONDS) as client:
        try:
            async with aclosing(client.watch_points(bookmarks=True, on_retry=broken)) as batches:
                async for batch in batches:
                    if batch.time is not None:
                        report["slots"].append(batch.time.isoformat())
                        say(f"slot {batch.time.isoformat()} {target}")
                    report["batches"] += 1
        except tickwatch.Error as error:
            report["failures"].append(f"{target} watch: {error}")


async def main() -> None:
    """Load every target until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    report: dict[str, list[str] | int] = {"calls": 0, "failures": [], "breaks": [], "slots": [], "batches": 0}
    targets = os.environ["TARGETS"].split(",")
    tasks = [asyncio.create_task(ask(target, stop, report)) for target in targets for _ in range(2)]
    watches = [asyncio.create_task(watch(target, report)) for target in targets]
    say("loading")
    await stop.wait()
    await asyncio.gather(*tasks)
    for task in watches:
        task.cancel()
    await asyncio.gather(*watches, return_exceptions=True)
    say(json.dumps(report))


asyncio.run(main())
