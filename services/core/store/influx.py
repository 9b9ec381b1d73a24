"""The store of a cluster: InfluxDB 2, through its own client library.

Points lie as `influx_format` says; the write order is kept as `influx_writes` says. What comes from users reaches Flux
only as parameters, which the client sends as values beside the query. Ranges are explicit and from our clock, never
`now()` of the server's. Reads of many points are parsed as they arrive.

Each call fails with StoreUnavailableError when the server says nothing for `timeout_seconds`: while it connects, before
it answers, or between two pieces of a long answer.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from urllib3.exceptions import HTTPError

from services.core.clock import Clock, SystemClock
from services.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from services.core.model import (
    MEASURES,
    SLOT_SECONDS,
    Floats,
    Measure,
    Outcome,
    Points,
    Quality,
    Run,
    Series,
    SeriesColumns,
    Slot,
    Window,
    WindowColumns,
)
from services.core.store.base import RETENTION_DAYS, Changes, Mark, MetricStore
from services.core.store.influx_client import SYNCHRONOUS, ApiException, Dialect, InfluxDBClient
from services.core.store.influx_format import POINT, QUALITY, TableReader, encode_points, escaped, quoted, read_rows
from services.core.store.influx_writes import OVERLAP_SECONDS, Announcement, SeenWrites, announced, to_read
from services.core.store.marks import expired, forged, make_mark, place_of
from services.core.store.retention import ORDER_KEPT_SECONDS, Retention

if TYPE_CHECKING:
    from services.core.store.influx_log import InfluxBreachLog

_BODY_BYTES = 2 << 20
"""Of a write's requests: large enough that their number does not matter, small enough for any proxy."""
_CHUNK_BYTES = 4 << 20
_READ_SLOTS = 1440
_READERS = 2
_SHORT_SLOTS = 60
_CONNECTIONS = 16
_HOUR_SECONDS = 3600.0
_RECENT_SLOTS = 180
_LANES = 16
"""Writers of the same microsecond are told apart by a number below this."""

_SECONDS, _NANOSECONDS = "s", "ns"
_RUN, _WRITE, _EXPIRY = "run", "write", "expiry"
_CSV = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]
_TAGS = '|> keep(columns: ["_time", "_value", "_field", "exchange", "pair"])'
_REMEDIES = {
    401: "the token is not valid; set INFLUXDB_V2_TOKEN, or mount it as a file",
    403: "the token may not do this; it needs to read and write the bucket",
    404: "no such organisation or bucket; check the store's URL, and what the token may see",
}


class InfluxMetricStore(MetricStore):
    """A store in a bucket; sends nothing before it is used.

    Marks are moments of the clock. A bulk load keeps one request in flight while it encodes the next.
    """

    def __init__(
        self,
        address: str,
        *,
        org: str,
        bucket: str,
        token: str,
        timeout_seconds: float = 10.0,
        clock: Clock | None = None,
        retention_days: int = RETENTION_DAYS,
    ) -> None:
        scheme, _, place = address.partition("://")
        self.url = f"influxdb+{scheme}://{place}/{quote(org, safe='')}/{quote(bucket, safe='')}"
        self._org, self._bucket = org, bucket
        self._timeout_seconds = timeout_seconds
        self._clock = clock or SystemClock()
        self._retention = Retention(retention_days, self._clock)
        self._seen = SeenWrites()
        self._identity = f"influxdb.{hashlib.blake2b(f'{org}/{bucket}'.encode(), digest_size=8).hexdigest()}"
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

    @functools.cached_property
    def breach_log(self) -> InfluxBreachLog:
        # Loaded where it is used: a collector's run has no part in alerting.
        from services.core.store.influx_log import InfluxBreachLog  # noqa: PLC0415

        return InfluxBreachLog(
            self.url,
            send=self._send,
            ask=self._small_answer,
            delete=self._delete,
            clock=self._clock,
            retention=self._retention,
        )

    def _small_answer(self, query: str, parameters: dict[str, Any]) -> list[dict[str, str]]:
        """Answer a query whose range is its own business; `bucket` is among its parameters already."""
        return read_rows(b"".join(self._asked(query, {**parameters, "bucket": self._bucket})))

    # Writing

    def write(self, points: Points) -> None:
        self.write_batches([points])

    def write_batches(self, batches: Iterable[Points]) -> int:
        self._check_open()
        count = 0
        with ThreadPoolExecutor(1, thread_name_prefix="tickwatch-influx") as sender:
            sending: Future[None] | None = None

            def send(body: str, precision: str = _SECONDS) -> None:
                nonlocal sending
                if sending is not None:
                    sending.result()
                sending = sender.submit(self._send, body, precision)

            for points in batches:
                self._retention.check(points)
                if not len(points):
                    continue
                window, metrics = announced(points)
                moment = self._moment()
                send(_announcement(moment, window, metrics, done=False), _NANOSECONDS)
                for body in _bodies(encode_points(points)):
                    send(body)
                send(_announcement(moment, window, metrics, done=True), _NANOSECONDS)
                count += len(points)
            if sending is not None:
                sending.result()
        return count

    def record_run(self, run: Run) -> None:
        fields = (
            f"finished_at={run.finished_at!r},point_count={run.point_count}i,"
            f"outcome={quoted(run.outcome)},error={quoted(run.error)}"
        )
        line = f"{_RUN},exchange={escaped(run.exchange)},shard={run.shard} {fields} {run.slot * SLOT_SECONDS}"
        self._send(line, _SECONDS)

    def expire(self) -> None:
        self._check_open()
        with self._translated():
            bucket = self._client.buckets_api().find_bucket_by_name(self._bucket)  # type: ignore[no-untyped-call]
        limits = [rule.every_seconds for rule in (bucket.retention_rules if bucket else [])]
        if any(0 < limit <= self._retention.days * 86_400 for limit in limits):
            return
        now = self._clock.now()
        recent = Window(Slot(int((now - _HOUR_SECONDS) // SLOT_SECONDS)), Slot(int(now // SLOT_SECONDS) + 1))
        if self._rows(f'|> filter(fn: (r) => r._measurement == "{_EXPIRY}") |> limit(n: 1)', recent):
            return
        last = _time(self._retention.oldest()) - timedelta(seconds=1)  # InfluxDB deletes the stop, too
        with self._translated():
            self._client.delete_api().delete(datetime.fromtimestamp(0, UTC), last, "", self._bucket, self._org)
        self._send(f"{_EXPIRY} done=true {int(now)}", _SECONDS)

    # Reading

    def list_series(self) -> tuple[Series, ...]:
        kept = Window(self._retention.oldest(), Slot(self._retention.newest() + 1))
        fields = " or ".join(f'r._field == "{measure}"' for measure in MEASURES)
        rows = self._rows(f'|> filter(fn: (r) => r._measurement == "{POINT}" and ({fields})) |> last() {_TAGS}', kept)
        return tuple(sorted({Series(f"{row['exchange']}:{row['pair']}", Measure(row["_field"])) for row in rows}))

    def read_window(self, window: Window, measures: Sequence[Measure] | None = None) -> WindowColumns:
        self._check_open()
        chosen = [measure for measure in MEASURES if measures is None or measure in measures]
        kept = self._retention.clamp(window)
        if not len(kept) or not chosen:
            return WindowColumns(window, (), np.empty((0, len(window))), np.empty((0, len(window)), np.uint8))
        return _dense(window, self._read_points(kept, (), chosen))

    def read_series(self, series: Series, window: Window) -> SeriesColumns:
        self._check_open()
        kept = self._retention.clamp(window)
        if len(kept):
            columns = _dense(window, self._read_points(kept, (series.metric,), [series.measure]))
            if columns.series:
                return SeriesColumns(window, columns.values[0], columns.qualities[0])
        return SeriesColumns(window, np.full(len(window), np.nan), np.zeros(len(window), np.uint8))

    def mark(self) -> Mark:
        place = self._seen.new_place(self._microseconds())
        self._seen.remember(place, self._announcements(place))
        return make_mark(self._identity, place)

    def read_since(self, mark: Mark) -> Changes:
        self._check_open()
        now = self._microseconds()
        place = place_of(mark, self._identity)
        if place > now + OVERLAP_SECONDS * 1e6:
            raise forged(mark)
        if place < now - ORDER_KEPT_SECONDS * 1e6:
            raise expired()
        announcements = self._announcements(place)
        oldest = self._retention.oldest()
        batches = [
            self._read_points(self._retention.clamp(window), metrics, MEASURES)
            for window, metrics in to_read(self._seen.unseen(place, announcements))
            if window.end > oldest
        ]
        following = self._seen.new_place(now)
        self._seen.remember(following, announcements)
        return Changes(_ordered(Points.concatenate(batches)), make_mark(self._identity, following))

    def newest_run_slot(self) -> Slot | None:
        newest = Slot(self._retention.newest() + 1)
        query = (
            f'|> filter(fn: (r) => r._measurement == "{_RUN}" and r._field == "point_count" and r._value > 0)'
            ' |> group() |> max(column: "_time")'
        )
        # A run is made every minute, so that the newest is nearly always a recent one.
        for start in (Slot(newest - _RECENT_SLOTS), self._retention.oldest()):
            if rows := self._rows(query, Window(start, newest)):
                return Slot(_seconds(rows[0]["_time"]) // SLOT_SECONDS)
        return None

    def latest_runs(self) -> tuple[Run, ...]:
        kept = Window(self._retention.oldest(), Slot(self._retention.newest() + 1))
        rows = self._rows(f'|> filter(fn: (r) => r._measurement == "{_RUN}") |> last()', kept)
        newest: dict[str, int] = {}
        found: dict[tuple[str, int, int], dict[str, str]] = {}
        for row in rows:
            slot = _seconds(row["_time"]) // SLOT_SECONDS
            newest[row["exchange"]] = max(slot, newest.get(row["exchange"], slot))
            found.setdefault((row["exchange"], slot, int(row["shard"])), {})[row["_field"]] = row["_value"]
        return tuple(
            Run(
                exchange,
                Slot(slot),
                float(fields["finished_at"]),
                int(fields["point_count"]),
                Outcome(fields["outcome"]),
                fields["error"],
                shard,
            )
            for (exchange, slot, shard), fields in sorted(found.items(), key=lambda item: (item[0][0], item[0][2]))
            if slot == newest[exchange]
        )

    def close(self) -> None:
        if self._open:
            self._open = False
            self._writes.close()  # type: ignore[no-untyped-call]
            self._client.close()  # type: ignore[no-untyped-call]

    # What all of it stands on

    def _read_points(self, window: Window, metrics: Sequence[str], measures: Sequence[Measure]) -> Points:
        """Read every point of the window, of these metrics where some are named."""
        parameters: dict[str, str] = {}
        choices = []
        for number, metric in enumerate(metrics):
            exchange, _, pair = metric.partition(":")
            parameters |= {f"exchange{number}": exchange, f"pair{number}": pair}
            choices.append(f"(r.exchange == exchange{number} and r.pair == pair{number})")
        of_metrics = f" and ({' or '.join(choices)})" if choices else ""

        def query(suffix: str, more: str) -> str:
            fields = " or ".join(f'r._field == "{measure}{suffix}"' for measure in measures)
            return f'|> filter(fn: (r) => r._measurement == "{POINT}"{of_metrics} and ({fields})) {more}{_TAGS}'

        parts = [
            Window(Slot(start), Slot(min(start + _READ_SLOTS, window.end)))
            for start in range(window.start, window.end, _READ_SLOTS)
        ]
        values = query("", "")
        exceptions = query(QUALITY, f"|> filter(fn: (r) => r._value != {int(Quality.OBSERVED)}) ")
        tables = [(values, part) for part in parts] + [(exceptions, window)]

        def read(table: tuple[str, Window]) -> TableReader:
            return self._table(*table, parameters)

        if len(window) <= _SHORT_SLOTS:  # two threads would cost more than they save
            readers = [read(table) for table in tables]
        else:
            with ThreadPoolExecutor(_READERS, thread_name_prefix="tickwatch-influx") as pool:
                readers = list(pool.map(read, tables))
        return _joined(window, readers[:-1], readers[-1])

    def _table(self, query: str, window: Window, parameters: dict[str, str]) -> TableReader:
        reader = TableReader()
        for chunk in self._answer(query, window, parameters):
            with self._readable():
                reader.feed(chunk)
        return reader

    def _rows(self, query: str, window: Window) -> list[dict[str, str]]:
        return read_rows(b"".join(self._answer(query, window, {})))

    def _announcements(self, place: int) -> list[Announcement]:
        """Every record from before the mark at this place, by the overlap, to the present and as far beyond it."""
        start = place / 1e6 - OVERLAP_SECONDS
        end = max(self._clock.now(), place / 1e6) + OVERLAP_SECONDS
        window = Window(Slot(int(start // SLOT_SECONDS)), Slot(int(end // SLOT_SECONDS) + 1))
        rows = self._rows(
            f'|> filter(fn: (r) => r._measurement == "{_WRITE}" and r._field == "what")'
            ' |> keep(columns: ["_time", "_value", "lane"])',
            window,
        )
        found = []
        for row in rows:
            what = json.loads(row["_value"])
            touched = Window(Slot(what["start"]), Slot(what["end"]))
            found.append(Announcement(f"{row['_time']} {row['lane']}", touched, tuple(what["metrics"]), what["done"]))
        return found

    def _answer(self, query: str, window: Window, parameters: dict[str, str]) -> Iterator[bytes]:
        """Ask, and yield the CSV as it comes; the range and the bucket are parameters as well."""
        text = f"from(bucket: bucket) |> range(start: start, stop: stop) {query}"
        given = {**parameters, "bucket": self._bucket, "start": _time(window.start), "stop": _time(window.end)}
        yield from self._asked(text, given)

    def _asked(self, text: str, given: dict[str, Any]) -> Iterator[bytes]:
        self._check_open()
        with self._translated():
            response = self._queries.query_raw(text, dialect=_CSV, params=given)
            try:
                yield from _gathered(response.stream(_CHUNK_BYTES))
            finally:
                response.close()
                response.release_conn()

    def _send(self, body: str, precision: str) -> None:
        self._check_open()
        with self._translated():
            self._writes.write(self._bucket, self._org, body.encode(), precision)  # type: ignore[arg-type]  # its strings

    def _delete(self, measurement: str, start: int, end: int) -> None:
        """Delete a measurement's points in [start, end), nanoseconds since the epoch."""
        self._check_open()
        first, last = (
            f"{datetime.fromtimestamp(each // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{each % 1_000_000_000:09d}Z"
            for each in (start, end - 1)  # InfluxDB deletes the stop, too
        )
        predicate = f'_measurement="{measurement}"'
        with self._translated():
            self._client.delete_api().delete(first, last, predicate, self._bucket, self._org)

    def _moment(self) -> tuple[int, int]:
        """A nanosecond and a lane that no other write has."""
        return self._microseconds() * 1000 + secrets.randbelow(1000), secrets.randbelow(_LANES)

    def _microseconds(self) -> int:
        return int(self._clock.now() * 1e6)

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailableError(self.url, "the store is closed")

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise StoreUnavailableError(self.url, f"the answer cannot be read: {error}") from error

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


def _bodies(texts: Iterable[str]) -> Iterator[str]:
    gathered: list[str] = []
    size = 0
    for text in texts:
        gathered.append(text)
        size += len(text)
        if size >= _BODY_BYTES:
            yield "".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield "".join(gathered)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces, which are as small as the server's chunks, into ones that are worth a numpy call."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _announcement(moment: tuple[int, int], window: Window, metrics: Sequence[str], *, done: bool) -> str:
    nanoseconds, lane = moment
    what = json.dumps({"start": window.start, "end": window.end, "metrics": metrics, "done": done})
    return f"{_WRITE},lane={lane} what={quoted(what)} {nanoseconds}"


def _joined(window: Window, values: Sequence[TableReader], exceptions: TableReader) -> Points:
    """Join values with the qualities that are not OBSERVED; what has no value has no point."""
    places: dict[Series, int] = {}
    columns = []
    for reader in values:
        index, slots, numbers = reader.finish()
        mapping = np.array([places.setdefault(series, len(places)) for series in reader.series], np.int32)
        columns.append((mapping[index] if len(index) else index, slots, numbers))
    index, slots, numbers = (np.concatenate(part) for part in zip(*columns, strict=True))
    qualities = np.full(len(numbers), Quality.OBSERVED, np.uint8)
    rows, at, found = exceptions.finish()
    if len(rows):
        table = np.full((len(places) + 1, len(window)), Quality.OBSERVED, np.uint8)
        mapping = np.array([places.get(series, len(places)) for series in exceptions.series], np.int32)
        table[mapping[rows], at - window.start] = found.astype(np.uint8)
        qualities = table[index, slots - window.start]
    return Points(tuple(places), index, slots, numbers, qualities)


def _dense(window: Window, points: Points) -> WindowColumns:
    series = tuple(sorted(points.series))
    ranks = {name: rank for rank, name in enumerate(series)}
    rows = np.array([ranks[name] for name in points.series], np.int64)[points.series_index]
    values: Floats = np.full((len(series), len(window)), np.nan)
    qualities = np.zeros((len(series), len(window)), np.uint8)
    values[rows, points.slots - window.start] = points.values
    qualities[rows, points.slots - window.start] = points.qualities
    return WindowColumns(window, series, values, qualities)


def _ordered(points: Points) -> Points:
    """By slot, then by series; of what several reads returned one is kept."""
    series = tuple(sorted(points.series))
    ranks = {name: rank for rank, name in enumerate(series)}
    index = np.array([ranks[name] for name in points.series], np.int32)[points.series_index]
    order = np.lexsort((index, points.slots))
    if len(order):
        repeated = (np.diff(index[order]) == 0) & (np.diff(points.slots[order]) == 0)
        order = order[np.append(~repeated, True)]
    return Points(series, index[order], points.slots[order], points.values[order], points.qualities[order])


def _time(slot: int) -> datetime:
    return datetime.fromtimestamp(slot * SLOT_SECONDS, UTC)


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


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
