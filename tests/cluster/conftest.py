"""What tests on the cluster share: releases that are installed while other tests run, and a limit against hanging.

A release has points after minutes, because runs come each minute: these pass while tests run that need no release.

Each part of a test ends after a time that only a hang reaches, and says where it was.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
from collections.abc import Generator, Iterator

import pytest

from tests.support.release import Release, documented, image_values
from tests.support.secured_release import SecuredRelease

MOST_SECONDS = 420
"""Of a test's set-up, of the test, and of its tear-down. On a quiet node none takes half of it."""

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


@pytest.fixture(scope="session")
def release_of_the_readme() -> Iterator[Release]:
    """Install as the README says, word for word but for the image's name, in the background."""
    block = documented("README.md", "helm install tickwatch")
    default = "--set image.repository=tickwatch --set image.tag=dev"
    assert default in block
    script = block.replace(default, image_values()) + "kill %1\n"
    with Release(lambda _: script) as release:
        yield release


@pytest.fixture(scope="session")
def secured_release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredRelease]:
    """Install a release that asks who calls, in the background."""
    with SecuredRelease(tmp_path_factory.mktemp("secured")) as release:
        yield release


@pytest.fixture(scope="session", autouse=True)
def begin_releases(request: pytest.FixtureRequest) -> None:
    """Begin to install, before the first test, what tests chosen for this run will ask for."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in ("release_of_the_readme", "secured_release"):
        if name in asked:
            # What goes wrong is raised again for whoever asks for it, and is nothing to the others.
            with contextlib.suppress(Exception, pytest.fail.Exception, pytest.skip.Exception):
                request.getfixturevalue(name)
