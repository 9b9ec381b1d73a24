"""No test on the cluster hangs: each part of one ends after a time that only a hang reaches, and says where it was."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
from collections.abc import Generator, Iterator

import pytest

MOST_SECONDS = 420
"""Of a test's set-up, of the test, and of its tear-down. On a quiet node none takes a third of it."""

_AGAIN_SECONDS = 15
"""What fails by then may wait for something else on its way out, which is broken off as well."""


@contextlib.contextmanager
def limited(what: str) -> Iterator[None]:
    """Fail when this takes too long, wherever the main thread waits; what all threads do is printed before."""

    def fail(_number: int, _frame: object) -> None:
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        pytest.fail(f"{what} has not ended within {MOST_SECONDS} s: it hangs, see the threads above")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Limit a test's fixtures."""
    with limited(f"the set-up of {item.name}"):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Limit a test."""
    with limited(item.name):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the end of its fixtures."""
    with limited(f"the tear-down of {item.name}"):
        yield
