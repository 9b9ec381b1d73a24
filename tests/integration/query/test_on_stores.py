"""The service on stores that another connection writes, as a collector in its own process does."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from contextlib import aclosing

import numpy as np
import pytest
import tickwatch

from services.core.clock import ManualClock
from services.core.model import DAY_SLOTS, Measure, Outcome, Points, Quality, Run, Series, Slot, Window
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support.buckets import own_bucket, store_url
from tests.support.needs import require_influxdb
from tests.support.query import LAST, NOW, eventually, make_market, names, serve

PRICE = Series("SIM:P00001", Measure.PRICE)


@pytest.fixture(params=["sqlite", "influxdb"])
def open_connection(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Callable[[], MetricStore]]:
    """Return what opens one more connection to a store of the test's own."""
    if request.param == "sqlite":
        yield lambda: open_store(f"sqlite:{tmp_path / 'tickwatch.db'}", clock=ManualClock(NOW))
        return
    influxdb = require_influxdb()
    with own_bucket(influxdb) as bucket:
        url = store_url(influxdb, bucket)
        yield lambda: open_store(url, token=influxdb.token, clock=ManualClock(NOW))


async def test_what_a_collector_writes_is_answered(open_connection: Callable[[], MetricStore]) -> None:
    """Loaded from the store, followed while it is written, joined with what is older: all equal to what was written."""
    market = make_market(names(20), slots=3 * DAY_SLOTS, holes=0.05, measures=[Measure.PRICE])
    with (
        open_connection() as writer,
        open_connection() as reader,
    ):
        writer.write(market.points())
        writer.record_run(Run("SIM", LAST, NOW, 20, Outcome.OK))
        async with serve(reader) as service, tickwatch.Client(service.server.address) as client:
            day = await client.get_history(PRICE.metric, "price")
            start = np.datetime64((LAST + 1 - 3 * DAY_SLOTS) * 60, "s")
            whole = await client.get_history(PRICE.metric, "price", start=start)
            ranked = await client.rank_metrics("price")
            async with aclosing(client.watch_points([PRICE.metric], bookmarks=True)) as watch:
                await anext(watch)
                writer.write(
                    Points.of(
                        [
                            (PRICE, LAST + 1, 7.0, Quality.OBSERVED),
                            (PRICE, LAST - 2 * DAY_SLOTS, 8.0, Quality.BACKFILLED),
                        ]
                    )
                )
                writer.record_run(Run("SIM", Slot(LAST + 1), NOW, 20, Outcome.OK))
                seen: list[float] = []
                while not {7.0, 8.0} <= set(seen):  # InfluxDB's follower reads some points twice
                    seen.extend((await anext(watch)).values.tolist())
            newer = await eventually(
                lambda: client.get_history(PRICE.metric, "price", start=start), lambda h: h.values[-1] == 7.0
            )

    expected = market.expected(PRICE, Window.ending(LAST + 1, 3 * DAY_SLOTS))
    np.testing.assert_array_equal(day.values, expected[-DAY_SLOTS:])
    np.testing.assert_array_equal(whole.values, expected)
    assert [r.rank for r in ranked.rankings] == list(range(1, 21))
    expected[-1 - 2 * DAY_SLOTS] = 8.0
    np.testing.assert_array_equal(newer.values, [*expected, 7.0])
