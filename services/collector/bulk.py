"""Loads files: our own `metric,measure,time,value`, and candle files as Kraken publishes them.

Kraken's (https://support.kraken.com/articles/360047124832, OHLCVT) have no header; their rows are
`time,open,high,low,close,volume,trades` of minutes with trades, and become `price` and `volume_1m` of a metric that the
caller names.

What a file says replaces what the store has, marked BACKFILLED: whoever loads a file means it. So a load that was
interrupted is made again as a whole. A row that cannot be a point is not loaded and never goes unmentioned: it is
counted, and the first ones are told with their line. Memory is bounded by a few chunks, whatever the file's size.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from services.collector.bulk_rows import HEADER, CandleRows, PointRows, Rows
from services.collector.progress import Meter, Report
from services.core.clock import Clock, SystemClock
from services.core.errors import InvalidInputError
from services.core.model import (
    DAY_SLOTS,
    Metric,
    Points,
    Window,
    slot_at,
)
from services.core.store.base import RETENTION_DAYS, MetricWriter

SHOWN_PROBLEMS = 20

_CHUNK_BYTES = 2 << 20
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
    if metric is not None:
        Metric.parse(metric)
    rows: Rows = PointRows(window) if metric is None else CandleRows(metric, window)
    line = 2 if header else 1
    lines = [] if header else [first_line]
    while lines := lines + text.readlines(_CHUNK_BYTES):
        chunk = rows.read(lines, line)
        report.row_count += chunk.row_count
        report.bad_count += len(chunk.problems)
        shown = chunk.problems[: SHOWN_PROBLEMS - len(report.problems)]
        report.problems += [f"line {number}: {problem}" for number, problem in shown]
        line += len(lines)
        lines = []
        yield chunk.points
