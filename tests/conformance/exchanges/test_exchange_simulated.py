"""The simulated exchange keeps the interface's promises."""

from __future__ import annotations

import pytest

from services.collector.exchanges.base import Exchange
from services.collector.exchanges.simulated import SimulatedExchange
from services.core.clock import ManualClock
from tests.conformance.exchanges.exchange_suite import ExchangeSuite


class TestSimulated(ExchangeSuite):
    """All of the suite."""

    @pytest.fixture
    def now(self) -> float:
        """A moment within a minute."""
        return 1_795_000_027.0

    @pytest.fixture
    def pairs(self) -> list[str]:
        """Two that everybody knows, and one that is made up from its name."""
        return ["BTCUSD", "XRPUSD", "T0001USD"]

    @pytest.fixture
    def exchange(self, now: float) -> Exchange:
        """A market of one seed."""
        return SimulatedExchange(1, ManualClock(now))
