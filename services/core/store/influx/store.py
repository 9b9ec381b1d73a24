"""The store of a cluster: InfluxDB 2.

Points lie as `format` says, and are read by `reading`; the write order is kept as `writes` says; `bucket` speaks with
the server.
"""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from services.core.clock import Clock, SystemClock
from services.core.model import (
    MEASURES,
    SLOT_SECONDS,
    Measure,
    Outcome,
    Points,
    Run,
    Series,
    SeriesColumns,
    Slot,
    Window,
    WindowColumns,
)
from services.core.store.base import RETENTION_DAYS, Changes, Mark, MetricStore
from services.core.store.influx.bucket import NANOSECONDS, SECONDS, InfluxBucket, gathered
from services.core.store.influx.format import POINT, encode_points, escaped, quoted
from services.core.store.influx.lanes import BODY_BYTES, Lanes
from services.core.store.influx.reading import TAGS, dense, ordered, ranged, read_points
from services.core.store.influx.writes import OVERLAP_SECONDS, Announcement, Rising, SeenWrites, parts, to_read
from services.core.store.marks import expired, forged, make_mark, place_of
from services.core.store.retention import ORDER_KEPT_SECONDS, Retention

if TYPE_CHECKING:
    from services.core.store.influx.log import InfluxBreachLog

_PARTS_UNDER_WAY = 2
"""Of a bulk load: one is encoded and sent while the one before is on its way."""
_HOUR_SECONDS = 3600.0
_RECENT_SLOTS = 180
_LANES = 16
"""Processes that write in the same nanosecond are told apart by a number below this."""

_RUN, _WRITE, _EXPIRY = "run", "write", "expiry"


class InfluxMetricStore(MetricStore):
    """A store in a bucket; sends nothing before it is used.

    Marks are moments of the clock. A bulk load encodes a part while others are on their way.
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
        self._bucket = InfluxBucket(address, org=org, bucket=bucket, token=token, timeout_seconds=timeout_seconds)
        self.url = self._bucket.url
        self._clock = clock or SystemClock()
        self._retention = Retention(retention_days, self._clock)
        self._seen = SeenWrites()
        self._moments, self._places = Rising(), Rising()
        self._identity = f"influxdb.{hashlib.blake2b(f'{org}/{bucket}'.encode(), digest_size=8).hexdigest()}"

    @functools.cached_property
    def breach_log(self) -> InfluxBreachLog:
        # Loaded where it is used: a collector's run has no part in alerting.
        from services.core.store.influx.log import InfluxBreachLog  # noqa: PLC0415

        return InfluxBreachLog(self._bucket, clock=self._clock, retention=self._retention)

    def close(self) -> None:
        self._bucket.close()

    # Writing

    def write(self, points: Points) -> None:
        self._bucket.check_open()
        self._retention.check(points)
        done = b""
        for part, begun, done_then in self._announced(points):
            self._bucket.send(done + begun, NANOSECONDS)
            for body in gathered((lines for _, lines in encode_points(part)), BODY_BYTES):
                self._bucket.send(body, SECONDS)
            done = done_then
        if done:
            self._bucket.send(done, NANOSECONDS)

    def write_batches(self, batches: Iterable[Points]) -> int:
        self._bucket.check_open()
        count = 0
        under_way: deque[tuple[list[Future[None]], bytes]] = deque()

        def finish_oldest() -> bytes:
            """Wait until a part has arrived, and return the record that says so."""
            bodies, done = under_way.popleft()
            for body in bodies:
                body.result()
            return done

        with Lanes(self._bucket.send) as lanes:
            for points in batches:
                self._retention.check(points)
                for part, begun, done in self._announced(points):
                    done_before = finish_oldest() if len(under_way) == _PARTS_UNDER_WAY else b""
                    self._bucket.send(done_before + begun, NANOSECONDS)
                    for metric, lines in encode_points(part):
                        lanes.put(metric, lines)
                    under_way.append((lanes.flush(), done))
                count += len(points)
            while under_way:
                self._bucket.send(finish_oldest(), NANOSECONDS)
        return count

    def record_run(self, run: Run) -> None:
        fields = (
            f"finished_at={run.finished_at!r},point_count={run.point_count}i,"
            f"outcome={quoted(run.outcome)},error={quoted(run.error)}"
        )
        line = f"{_RUN},exchange={escaped(run.exchange)},shard={run.shard} {fields} {run.slot * SLOT_SECONDS}"
        self._bucket.send(line.encode(), SECONDS)

    def expire(self) -> None:
        if any(0 < limit <= self._retention.days * 86_400 for limit in self._bucket.retention_seconds()):
            return
        now = self._clock.now()
        recent = Window(Slot(int((now - _HOUR_SECONDS) // SLOT_SECONDS)), Slot(int(now // SLOT_SECONDS) + 1))
        if self._rows(f'|> filter(fn: (r) => r._measurement == "{_EXPIRY}") |> limit(n: 1)', recent):
            return
        self._bucket.delete_before(self._retention.oldest() * SLOT_SECONDS * 1_000_000_000)
        self._bucket.send(f"{_EXPIRY} done=true {int(now)}".encode(), SECONDS)

    # Reading

    def list_series(self) -> tuple[Series, ...]:
        kept = Window(self._retention.oldest(), Slot(self._retention.newest() + 1))
        fields = " or ".join(f'r._field == "{measure}"' for measure in MEASURES)
        rows = self._rows(f'|> filter(fn: (r) => r._measurement == "{POINT}" and ({fields})) |> last() {TAGS}', kept)
        return tuple(sorted({Series(f"{row['exchange']}:{row['pair']}", Measure(row["_field"])) for row in rows}))

    def read_window(self, window: Window, measures: Sequence[Measure] | None = None) -> WindowColumns:
        self._bucket.check_open()
        chosen = [measure for measure in MEASURES if measures is None or measure in measures]
        kept = self._retention.clamp(window)
        if not len(kept) or not chosen:
            return WindowColumns(window, (), np.empty((0, len(window))), np.empty((0, len(window)), np.uint8))
        return dense(window, read_points(self._bucket, kept, (), chosen))

    def read_series(self, series: Series, window: Window) -> SeriesColumns:
        self._bucket.check_open()
        kept = self._retention.clamp(window)
        if len(kept):
            columns = dense(window, read_points(self._bucket, kept, (series.metric,), [series.measure]))
            if columns.series:
                return SeriesColumns(window, columns.values[0], columns.qualities[0])
        return SeriesColumns(window, np.full(len(window), np.nan), np.zeros(len(window), np.uint8))

    def mark(self) -> Mark:
        place = self._places.next(self._microseconds())
        self._seen.remember(place, self._announcements(place))
        return make_mark(self._identity, place)

    def read_since(self, mark: Mark) -> Changes:
        self._bucket.check_open()
        now = self._microseconds()
        place = place_of(mark, self._identity)
        if place > now + OVERLAP_SECONDS * 1e6:
            raise forged(mark)
        if place < now - ORDER_KEPT_SECONDS * 1e6:
            raise expired()
        announcements = self._announcements(place)
        oldest = self._retention.oldest()
        batches = [
            read_points(self._bucket, self._retention.clamp(window), metrics, MEASURES)
            for window, metrics in to_read(self._seen.unseen(place, announcements))
            if window.end > oldest
        ]
        following = self._places.next(now)
        self._seen.remember(following, announcements)
        return Changes(ordered(Points.concatenate(batches)), make_mark(self._identity, following))

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

    # What all of it stands on

    def _rows(self, query: str, window: Window) -> list[dict[str, str]]:
        return self._bucket.rows(*ranged(query, window))

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

    def _announced(self, points: Points) -> Iterator[tuple[Points, bytes, bytes]]:
        """Yield the parts of a write, each with the records that it is begun and that it is done."""
        for part, window, metrics in parts(points):
            nanoseconds, lane = self._moment()
            what = {"start": window.start, "end": window.end, "metrics": metrics}
            begun, done = (
                f"{_WRITE},lane={lane} what={quoted(json.dumps({**what, 'done': done}))} {nanoseconds}\n".encode()
                for done in (False, True)
            )
            yield part, begun, done

    def _moment(self) -> tuple[int, int]:
        """A nanosecond and a lane that no other write has: surely none of this process, hardly one of another."""
        wished = self._microseconds() * 1000 + secrets.randbelow(1000)
        return self._moments.next(wished), secrets.randbelow(_LANES)

    def _microseconds(self) -> int:
        return int(self._clock.now() * 1e6)


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
