"""The SQLite store's log against the suite."""

from __future__ import annotations

import pathlib

import pytest

from services.core.clock import ManualClock
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.conformance.log_suite import LogSuite


class TestSqliteBreachLog(LogSuite):
    """A place is a file."""

    @pytest.fixture
    def place(self, tmp_path: pathlib.Path) -> pathlib.Path:
        """A file that does not exist yet."""
        return tmp_path / "tickwatch.db"

    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        return open_store(f"sqlite:{place}", clock=clock)
