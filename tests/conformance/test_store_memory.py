"""The memory store against the suite."""

from __future__ import annotations

import pytest

from services.core.clock import ManualClock
from services.core.store.base import MetricStore
from services.core.store.memory import MemoryMetricStore
from tests.conformance.store_suite import StoreSuite


class TestMemoryMetricStore(StoreSuite):
    """A place is a list that holds the one store, because its data is nowhere else."""

    @pytest.fixture
    def place(self) -> list[MetricStore]:
        """No store yet."""
        return []

    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        assert isinstance(place, list)
        if not place:
            place.append(MemoryMetricStore(clock=clock))
        return place[0]
