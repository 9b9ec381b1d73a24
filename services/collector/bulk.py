"""Loads files: our own `metric,measure,time,value`, and candle files as Kraken publishes them.

Kraken's (https://support.kraken.com/articles/360047124832, OHLCVT) have no header; their rows are
`time,open,high,low,close,volume,trades` of minutes with trades, and become `price` and `volume_1m` of a metric that the
caller names.

What a file says replaces what the store has, marked BACKFILLED: whoever loads a file means it. So a load that was
interrupted is made again as a whole. A row that cannot be a point is not loaded and never goes unmentioned: it is
counted, and the first ones are told with their line. Memory is bounded by a few chunks, whatever the file's size.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, cast

import numpy as np

from services.collector.progress import Meter, Report
from services.core.clock import Clock, SystemClock
from services.core.errors import InvalidInputError
from services.core.model import (
    DAY_SLOTS,
    MEASURES,
    SIGNED_MEASURES,
    SLOT_SECONDS,
    Measure,
    Metric,
    Points,
    Quality,
    Series,
    Window,
    slot_at,
    slot_time,
)
from services.core.store.base import RETENTION_DAYS, MetricWriter

HEADER = ["metric", "measure", "time", "value"]
SHOWN_PROBLEMS = 20

_CHUNK_BYTES = 2 << 20
_CANDLE_COLUMNS = 7
_PRICE, _VOLUME = 4, 5
_TELLING_ROWS = 20
_EDGE_SLOTS = 10  # rows this near to the end of the retention would leave it while the file loads


@dataclass(slots=True)
class LoadReport:
    """What a load did."""

    row_count: int = 0
    """Rows read, without the header and empty lines."""
    point_count: int = 0
    bad_count: int = 0
    """Rows that were not loaded."""
    problems: list[str] = field(default_factory=list)
    """What was wrong with the first of them, `line N: …`."""

    @property
    def exit_code(self) -> int:
        """0 where every row was loaded, else 1."""
        return int(self.bad_count > 0)

    def to_json(self) -> str:
        """One line."""
        counts = {"rows": self.row_count, "points": self.point_count, "bad_rows": self.bad_count}
        return json.dumps({**counts, "problems": self.problems, "exit_code": self.exit_code}, ensure_ascii=False)


def load_file(
    path: Path,
    *,
    writer: MetricWriter,
    metric: str | None = None,
    clock: Clock | None = None,
    progress: Report | None = None,
) -> LoadReport:
    """Load a .csv or .csv.gz; blocks. `metric` makes it a candle file of that metric.

    Raises InvalidInputError (field `from`) for a file that cannot be read or is of neither form, with the line where it
    ends to be readable; StoreError as the store does. What was written before stays.
    """
    report = LoadReport()
    window = _loadable(clock or SystemClock())
    try:
        with path.open("rb") as raw:
            size = path.stat().st_size
            meter = Meter(size, "bytes", progress)
            with (
                gzip.open(raw) if path.suffix == ".gz" else raw as stream,
                io.TextIOWrapper(cast(IO[bytes], stream), encoding="utf-8-sig", newline="") as text,
            ):
                batches = _batches(text, metric, window, report)
                writer.write_batches(_counted(batches, report, raw, meter))
    except (OSError, EOFError, zlib.error) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError("from", f"{path} cannot be read after {report.row_count} rows: {what}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError("from", f"{path} is not UTF-8 text after {report.row_count} rows") from error
    return report


def _loadable(clock: Clock) -> Window:
    now = slot_at(clock.now())
    return Window.ending(now + 1, RETENTION_DAYS * DAY_SLOTS - _EDGE_SLOTS)


def _counted(batches: Iterator[Points], report: LoadReport, raw: IO[bytes], meter: Meter) -> Iterator[Points]:
    place = 0
    for points in batches:
        yield points
        report.point_count += len(points)
        here = raw.tell()
        meter.add(here - place, f"{report.row_count} rows, {report.bad_count} bad")
        place = here


def _batches(text: io.TextIOWrapper, metric: str | None, window: Window, report: LoadReport) -> Iterator[Points]:
    first_line = text.readline()
    header = [name.strip().lower() for name in first_line.strip().split(",")] == HEADER
    if metric is None and not header:
        raise InvalidInputError(
            "from",
            f"the first line is {first_line.strip()!r:.80}, not the header {','.join(HEADER)}",
            "name the metric that a candle file without a header is of",
        )
    if metric is not None and header:
        raise InvalidInputError("metric", "the file names its metrics itself", "leave the metric out")
    read: _Reader
    if metric is None:
        read = _PointRows(window)
    else:
        Metric.parse(metric)
        read = _CandleRows(metric, window)
    line = 2 if header else 1
    lines = [] if header else [first_line]
    while lines := lines + text.readlines(_CHUNK_BYTES):
        points = read.read(lines, line, report)
        line += len(lines)
        lines = []
        if len(points):
            yield points


class _BadRowError(Exception):
    """A row that cannot be a point."""


class _Reader:
    """Rows of one form to points: keeps columns, and what it has understood of repeated words."""

    columns: Sequence[str]

    def __init__(self, window: Window) -> None:
        self._window = window
        self._slots: dict[str, int] = {}

    def read(self, lines: list[str], first: int, report: LoadReport) -> Points:
        """Turn lines into points; `first` is the number of the first of them."""
        self._slots.clear()
        rows = csv.reader(lines)
        for row in rows:
            if not row:
                continue
            report.row_count += 1
            try:
                self.take(row)
            except _BadRowError as problem:
                report.bad_count += 1
                if len(report.problems) < SHOWN_PROBLEMS:
                    report.problems.append(f"line {first + rows.line_num - 1}: {problem}")
        return self.points()

    def take(self, row: list[str]) -> None:
        """Keep a row, or raise what is wrong with it."""
        raise NotImplementedError

    def points(self) -> Points:
        """Return what was kept, and forget it."""
        raise NotImplementedError

    def slot(self, text: str) -> int:
        """Read a time: ISO 8601 in UTC, or whole seconds since the epoch."""
        known = self._slots.get(text)
        if known is None:
            known = self._slots[text] = self._read_slot(text)
        return known

    def number(self, text: str, what: str) -> float:
        """Read a finite number."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # float() takes 1_000 as well, which is no number in any file.
        if not math.isfinite(value) or "_" in text:
            raise _BadRowError(f"{what} is {text!r:.40}, not a number")
        return value

    def _read_slot(self, text: str) -> int:
        try:
            if text.isascii() and text.isdecimal():
                seconds = int(text)
            else:
                moment = datetime.fromisoformat(text)
                if moment.utcoffset():
                    raise _BadRowError(f"the time {text!r} is not in UTC; end it with Z")
                stamp = moment.replace(tzinfo=UTC).timestamp()
                seconds = int(stamp) if stamp.is_integer() else 1
        except ValueError:
            raise _BadRowError(
                f"the time is {text!r:.40}; give seconds since 1970 or ISO 8601, as 2026-11-24T12:00:00Z"
            ) from None
        slot, rest = divmod(seconds, SLOT_SECONDS)
        if rest:
            raise _BadRowError(f"the time {text!r:.40} is not on a whole minute")
        if slot < self._window.start:
            oldest = f"{slot_time(self._window.start):%Y-%m-%dT%H:%MZ}"
            raise _BadRowError(
                f"the time {text!r:.40} is beyond the {RETENTION_DAYS} days kept; the oldest is {oldest}"
            )
        if slot >= self._window.end:
            raise _BadRowError(f"the time {text!r:.40} lies in the future")
        return slot


class _PointRows(_Reader):
    """Our own form."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._series: dict[tuple[str, str], Series] = {}
        self._rows: list[tuple[Series, int, float]] = []

    def take(self, row: list[str]) -> None:
        if len(row) != len(HEADER):
            raise _BadRowError(f"{len(row)} columns instead of {','.join(HEADER)}")
        metric, measure, time, text = row
        series = self._series.get((metric, measure)) or self._read_series(metric, measure)
        slot = self.slot(time)
        value = self.number(text, "the value")
        if value <= 0 and series.measure not in SIGNED_MEASURES and (value < 0 or series.measure is Measure.PRICE):
            floor = "not above 0" if series.measure is Measure.PRICE else "negative"
            raise _BadRowError(f"the {series.measure} is {text}, {floor}")
        self._rows.append((series, slot, value))

    def points(self) -> Points:
        rows, self._rows = self._rows, []
        places: dict[Series, int] = {}
        index = np.fromiter((places.setdefault(row[0], len(places)) for row in rows), np.int32, len(rows))
        slots = np.fromiter((row[1] for row in rows), np.int64, len(rows))
        values = np.fromiter((row[2] for row in rows), np.float64, len(rows))
        return Points(tuple(places), index, slots, values, np.full(len(rows), Quality.BACKFILLED, np.uint8))

    def _read_series(self, metric: str, measure: str) -> Series:
        try:
            Metric.parse(metric)
        except InvalidInputError as error:
            raise _BadRowError(str(error)) from None
        if measure not in list(Measure):
            raise _BadRowError(f"unknown measure {measure!r:.40}; one of {', '.join(MEASURES)}")
        series = self._series[metric, measure] = Series(metric, Measure(measure))
        return series


class _CandleRows(_Reader):
    """Kraken's OHLCVT."""

    def __init__(self, metric: str, window: Window) -> None:
        super().__init__(window)
        self._series = (Series(metric, Measure.PRICE), Series(metric, Measure.VOLUME_1M))
        self._rows: list[tuple[int, float, float]] = []
        self._first = True

    def take(self, row: list[str]) -> None:
        if len(row) != _CANDLE_COLUMNS:
            raise _BadRowError(f"{len(row)} columns instead of time,open,high,low,close,volume,trades")
        slot = self.slot(row[0])
        price, volume = self.number(row[_PRICE], "the close"), self.number(row[_VOLUME], "the volume")
        if price <= 0:
            raise _BadRowError(f"the close is {row[_PRICE]}, not above 0")
        if volume < 0:
            raise _BadRowError(f"the volume is {row[_VOLUME]}, negative")
        self._rows.append((slot, price, volume))

    def points(self) -> Points:
        rows, self._rows = self._rows, []
        slots = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        if self._first and len(rows) >= _TELLING_ROWS and not (slots % 5).any():
            raise InvalidInputError("from", "its candles are not of one minute", "the file whose name ends in _1.csv")
        self._first = self._first and not rows
        values = [np.fromiter((row[i] for row in rows), np.float64, len(rows)) for i in (1, 2)]
        index = np.repeat(np.arange(2, dtype=np.int32), len(rows))
        qualities = np.full(2 * len(rows), Quality.BACKFILLED, np.uint8)
        return Points(self._series, index, np.tile(slots, 2), np.concatenate(values), qualities)
