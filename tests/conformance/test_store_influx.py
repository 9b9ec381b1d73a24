"""The InfluxDB store against the suite, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.core.clock import ManualClock
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.conformance.store_suite import StoreSuite
from tests.support.buckets import own_bucket, store_url
from tests.support.needs import require_influxdb


class TestInfluxMetricStore(StoreSuite):
    """A place is a bucket's URL and the token."""

    @pytest.fixture
    def place(self) -> Iterator[tuple[str, str]]:
        """A bucket of its own."""
        influxdb = require_influxdb()
        with own_bucket(influxdb) as bucket:
            yield store_url(influxdb, bucket), influxdb.token

    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        assert isinstance(place, tuple)
        return open_store(place[0], token=place[1], clock=clock)
