"""The server that exchanges are asked at over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.exchanges import RunningExchange, running_exchange


@pytest.fixture(scope="module")
def rig() -> Iterator[RunningExchange]:
    """One server for all tests of a file."""
    with running_exchange() as running:
        yield running
