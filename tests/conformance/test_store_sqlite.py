"""The SQLite store against the suite."""

from __future__ import annotations

import pathlib

import pytest

from services.core.clock import ManualClock
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.conformance.store_suite import StoreSuite


class TestSqliteMetricStore(StoreSuite):
    """A place is a file."""

    @pytest.fixture
    def place(self, tmp_path: pathlib.Path) -> pathlib.Path:
        """A file that does not exist yet, nor its folder."""
        return tmp_path / "new folder" / "tickwatch.db"

    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        return open_store(f"sqlite:{place}", clock=clock)
