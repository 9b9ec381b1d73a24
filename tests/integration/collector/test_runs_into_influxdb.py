"""A backfill and runs into a real InfluxDB leave what they leave elsewhere, and say when it is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest

from services.collector.backfill import backfill
from services.collector.exchanges.base import ExchangeOptions
from services.collector.job import open_collector, run_once
from services.core.catalog.base import DEFAULT_MARKETS, FixedCatalog
from services.core.model import DAY_SLOTS, Window, WindowColumns, last_complete_slot
from services.core.store.opening import open_store
from tests.support.exchanges import RunningExchange, running_exchange
from tests.support.influxd import Influxd, running_influxd

CATALOG = FixedCatalog(*DEFAULT_MARKETS)


@pytest.fixture
def rig() -> Iterator[RunningExchange]:
    """A server of three pairs."""
    with running_exchange() as running:
        yield running


@pytest.fixture
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """A database of this test's own."""
    with running_influxd(tmp_path_factory.mktemp("influxd")) as running:
        yield running


async def test_runs_into_influxdb(rig: RunningExchange, influxd: Influxd, capsys: pytest.CaptureFixture[str]) -> None:
    """A run, the same run again and a backfill beside it agree with the same into memory; away, the exit code is 3."""
    access = influxd.access
    url = f"{access.url.replace('http://', 'influxdb+http://')}/{access.org}/{access.bucket}"
    options = {"KRAKEN": ExchangeOptions(base_url=rig.url, calls_per_second=1000)}
    slot = last_complete_slot(time.time())
    late = {"catalog": CATALOG, "exchange_options": options, "slot": slot - 5}
    window = Window.ending(slot - 4, DAY_SLOTS)

    codes = [await run_once(store_url=url, store_token=access.token, **late) for _ in range(2)]  # type: ignore[arg-type]  # of several types
    tables = []
    for store in (open_store(url, token=access.token), open_store("memory:")):
        with store:
            async with open_collector(store, catalog=CATALOG, exchange_options=options) as collector:
                await backfill(collector, window)
                again = await backfill(collector, window)
            tables.append(store.read_window(window))
    influxd.stop()
    away = await run_once(store_url=url, store_token=access.token, store_timeout_seconds=2, **late)  # type: ignore[arg-type]  # as above

    assert ([0, 0], 0, 3) == (codes, again.point_count, away)
    first, second, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["points"] == second["points"] >= 6
    assert 0 == second["repaired"]
    assert access.url.removeprefix("http://") in last["error"]
    assert_same(*tables)


def assert_same(expected: WindowColumns, actual: WindowColumns) -> None:
    """Fail unless both tell the same points."""
    assert expected.series == actual.series
    np.testing.assert_array_equal(expected.values, actual.values)
    np.testing.assert_array_equal(expected.qualities, actual.qualities)
    assert 3 * 2 * DAY_SLOTS < np.isfinite(actual.values).sum()
