"""The bucket, through InfluxDB's own client library: line protocol in, answers in CSV out.

Here is all that is known of the client and of HTTP: deadlines, and what its exceptions mean as ours. Each call fails
with StoreUnavailableError when the server says nothing for `timeout_seconds`: while it connects, before it answers, or
between two pieces of a long answer. What the text says is the business of others.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from services.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from services.core.store.influx.client import SYNCHRONOUS, ApiException, Dialect, InfluxDBClient
from services.core.store.influx.format import read_rows

SECONDS, NANOSECONDS = "s", "ns"
"""Precisions of the times in line protocol."""

_CHUNK_BYTES = 1 << 18
"""Of an answer: the server's chunks are small, these are worth a numpy call, and what is made of them fits a cache."""
_CONNECTIONS = 16
_CSV = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]
_REMEDIES = {
    401: "the token is not valid; set INFLUXDB_V2_TOKEN, or mount it as a file",
    403: "the token may not do this; it needs to read and write the bucket",
    404: "no such organisation or bucket; check the store's URL, and what the token may see",
}


class InfluxBucket:
    """A bucket of an organisation; sends nothing before it is used."""

    def __init__(self, address: str, *, org: str, bucket: str, token: str, timeout_seconds: float) -> None:
        scheme, _, place = address.partition("://")
        self.url = f"influxdb+{scheme}://{place}/{quote(org, safe='')}/{quote(bucket, safe='')}"
        self._org, self._name = org, bucket
        self._timeout_seconds = timeout_seconds
        self._open = True
        self._client = InfluxDBClient(
            address,
            token,
            org=org,
            timeout=round(timeout_seconds * 1000),
            connection_pool_maxsize=_CONNECTIONS,
        )
        self._writes = self._client.write_api(write_options=SYNCHRONOUS)
        self._queries = self._client.query_api()

    def send(self, body: bytes, precision: str) -> None:
        """Write line protocol."""
        self.check_open()
        with self._translated():
            self._writes.write(self._name, self._org, body, precision)  # type: ignore[arg-type]  # its strings

    def ask(self, query: str, parameters: dict[str, Any]) -> Iterator[bytes]:
        """Answer Flux, and yield the CSV as it comes; `bucket` is among the query's parameters."""
        self.check_open()
        with self._translated():
            response = self._queries.query_raw(query, dialect=_CSV, params={**parameters, "bucket": self._name})
            try:
                yield from gathered(response.stream(_CHUNK_BYTES), _CHUNK_BYTES)
            finally:
                response.close()
                response.release_conn()

    def rows(self, query: str, parameters: dict[str, Any]) -> list[dict[str, str]]:
        """Answer Flux with few rows, each a dictionary of texts."""
        return read_rows(b"".join(self.ask(query, parameters)))

    def delete(self, measurement: str, start: int, end: int) -> None:
        """Delete a measurement's points in [start, end), nanoseconds since the epoch."""
        self._delete(f'_measurement="{measurement}"', start, end)

    def delete_before(self, end: int) -> None:
        """Delete every point before this moment, nanoseconds since the epoch."""
        self._delete("", 0, end)

    def retention_seconds(self) -> list[int]:
        """Return how long the bucket itself keeps points, for each of its rules; 0 is for ever."""
        self.check_open()
        with self._translated():
            bucket = self._client.buckets_api().find_bucket_by_name(self._name)  # type: ignore[no-untyped-call]
        return [rule.every_seconds for rule in (bucket.retention_rules if bucket else [])]

    def check_open(self) -> None:
        """Raise StoreUnavailableError once it is closed."""
        if not self._open:
            raise StoreUnavailableError(self.url, "the store is closed")

    def close(self) -> None:
        """Free the connections; closing twice is fine."""
        if self._open:
            self._open = False
            self._writes.close()  # type: ignore[no-untyped-call]
            self._client.close()  # type: ignore[no-untyped-call]

    def _delete(self, predicate: str, start: int, end: int) -> None:
        self.check_open()
        first, last = (
            f"{datetime.fromtimestamp(each // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{each % 1_000_000_000:09d}Z"
            for each in (start, end - 1)  # InfluxDB deletes the stop, too
        )
        with self._translated():
            self._client.delete_api().delete(first, last, predicate, self._name, self._org)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's and its HTTP library's exceptions into ours."""
        try:
            yield
        except ApiException as error:
            raise self._refusal(error) from error
        except (HTTPError, OSError) as error:
            if not self._open:
                raise StoreUnavailableError(self.url, "the store is closed") from error
            words = f"no answer within {self._timeout_seconds:g} s" if "timed out" in str(error) else _first_line(error)
            raise StoreUnavailableError(self.url, words) from error

    def _refusal(self, error: ApiException) -> StoreError:
        words = _message(error)
        if error.status in _REMEDIES:
            return StoreRefusedError(self.url, f"{words} ({_REMEDIES[error.status]})")
        if error.status is not None and 400 <= error.status < 500 and error.status not in (408, 429):  # noqa: PLR2004 - HTTP
            return StoreRefusedError(self.url, words)
        return StoreUnavailableError(self.url, words)


def gathered(pieces: Iterable[bytes], least: int) -> Iterator[bytes]:
    """Join pieces into ones of at least this length; the last holds what is left."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= least:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _message(error: ApiException) -> str:
    """The server's own words: its JSON message where there is one."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        message: Any = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body or str(error.reason)
    return f"InfluxDB says {error.status}: {_first_line(message)}"


def _first_line(said: object) -> str:
    return (str(said).strip().splitlines() or [type(said).__name__])[0][:300]
