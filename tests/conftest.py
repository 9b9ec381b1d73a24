"""Rules that hold for every test."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import Scheduling

from tests.support import workers

# How long an example takes says how busy the machine is, and nothing of the code. All else stays as hypothesis has it,
# which under CI=true tries the same examples each time.
hypothesis.settings.register_profile(
    "tickwatch", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tickwatch")

# A shell that runs the suite in the background has it ignore SIGINT, and every process that a test starts would inherit
# that; Ctrl-C is one of the things that are tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Divide the suite among workers."""
    return workers.ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers begin with what takes longest."""
    if hasattr(config, "workerinput"):
        workers.longest_first(items)


@pytest_asyncio.fixture(autouse=True)
async def no_task_left_behind(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail a test that ends while a task it started is still pending."""
    if not asyncio.iscoroutinefunction(getattr(request.node, "obj", None)):
        yield
        return
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    if left:
        # A task that was cancelled a moment ago may need one more turn of the loop.
        _, left = await asyncio.wait(left, timeout=20)
    if left:
        pytest.fail(f"tasks left pending: {[task.get_coro() for task in left]}")


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread of ours running; ours are named tickwatch-*."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name.startswith("tickwatch-")]
    for thread in left:
        thread.join(timeout=20)
    left = [thread for thread in left if thread.is_alive()]
    if left:
        pytest.fail(f"threads left running: {[thread.name for thread in left]}")


@pytest.fixture(autouse=True, scope="module")
def collect_garbage() -> Iterator[None]:
    """Make unclosed files and sockets show as ResourceWarning in the module that left them."""
    yield
    gc.collect()
