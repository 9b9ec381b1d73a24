"""A bucket of its own for each test that needs a real InfluxDB."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from influxdb_client.client.influxdb_client import InfluxDBClient

from tests.support.needs import InfluxDB


@contextlib.contextmanager
def own_bucket(influxdb: InfluxDB) -> Iterator[str]:
    """Make a bucket without a retention rule, give its name, delete it with everything in it."""
    name = f"test-{uuid.uuid4().hex}"
    with InfluxDBClient(influxdb.url, influxdb.token, org=influxdb.org) as client:
        bucket = client.buckets_api().create_bucket(bucket_name=name, org=influxdb.org)
        try:
            yield name
        finally:
            client.buckets_api().delete_bucket(bucket)


def store_url(influxdb: InfluxDB, bucket: str) -> str:
    """The URL by which `open_store` finds the bucket."""
    scheme, _, host = influxdb.url.partition("://")
    return f"influxdb+{scheme}://{host}/{influxdb.org}/{bucket}"
