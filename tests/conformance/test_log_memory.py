"""The memory store's log against the suite."""

from __future__ import annotations

import pytest

from services.core.clock import ManualClock
from services.core.store.base import MetricStore
from services.core.store.memory import MemoryMetricStore
from tests.conformance.log_suite import LogSuite


class _Shared(MemoryMetricStore):
    """Stays open, so that opening it again finds what it holds."""

    def __exit__(self, *exc_info: object) -> None:
        pass


class TestMemoryBreachLog(LogSuite):
    """A place is the store itself."""

    @pytest.fixture
    def place(self, clock: ManualClock) -> _Shared:
        """A store."""
        return _Shared(clock=clock)

    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        assert isinstance(place, _Shared)
        return place
