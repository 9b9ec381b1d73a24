"""What streams that were opened and cancelled leave in a server: no more than behind a handler that does nothing."""

from __future__ import annotations

import os

from tests.support.alert_process import open_and_cancel, weighed

STREAMS = int(os.environ.get("TICKWATCH_TEST_STREAMS", "2000"))
"""How many; 20,000 take about a minute."""

WARMING = 500
"""Pools, threads' heaps and caches have found their size after these."""

NOISE_BYTES = 1_500_000
"""What an allocator may keep or give back between two measurements; a leak of 1 kB a stream exceeds it."""

NOISE_OBJECTS = 200


async def test_memory_grows_no_more_than_behind_an_empty_handler():
    """Side by side: the alert service's growth in objects and resident memory against an empty handler's."""
    with weighed("service") as service, weighed("empty") as empty:
        growth = []
        for process in (service, empty):
            await open_and_cancel(process.address, WARMING)
            before = process.weigh()
            await open_and_cancel(process.address, STREAMS)
            after = process.weigh()
            growth.append((after.objects - before.objects, after.resident_bytes - before.resident_bytes))
    ours, theirs = growth

    assert ours[0] <= max(theirs[0], 0) + NOISE_OBJECTS
    assert ours[1] <= max(theirs[1], 0) + NOISE_BYTES
