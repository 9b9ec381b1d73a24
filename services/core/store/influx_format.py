"""What goes over the wire to InfluxDB and back: line protocol out, CSV in, both by the column.

Layout: measurement `metric`, tags `exchange` and `pair`, and for each measure a float field of its name and an integer
field `<measure>_quality`; all measures of a metric and slot are one point of InfluxDB's. So a user's own Flux reads
`_field == "price"`. A point's time is the slot's start. Pure: it knows no connection and no query.

Line protocol: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/ ; the CSV is that of
https://docs.influxdata.com/influxdb/v2/reference/syntax/annotated-csv/ with a header and without annotations.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from services.core.model import SLOT_SECONDS, Floats, Indices, Measure, Metric, Points, Series, Slots

POINT = "metric"
QUALITY = "_quality"

_LINES = 8192
_COLUMNS = ["", "result", "table", "_time", "_value", "_field", "exchange", "pair"]


def encode_points(points: Points) -> Iterator[str]:
    """Yield line protocol, some thousand lines at a time, seconds as precision.

    Of points that stand twice the later is written. Raises InvalidInputError for a name that is not EXCHANGE:PAIR.
    """
    points = _latest(points)
    bounds = np.flatnonzero(np.diff(points.series_index, prepend=-1, append=-1))
    segments: defaultdict[str, list[tuple[Measure, slice]]] = defaultdict(list)
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        series = points.series[points.series_index[start]]
        segments[series.metric].append((series.measure, slice(start, end)))
    for name, of_metric in segments.items():
        metric = Metric.parse(name)
        head = f"{POINT},exchange={metric.exchange},pair={metric.pair} "
        alike: defaultdict[bytes, list[tuple[Measure, slice]]] = defaultdict(list)
        for measure, part in of_metric:
            alike[points.slots[part].tobytes()].append((measure, part))
        for parts in alike.values():
            yield from _lines(head, points, parts)


def _lines(head: str, points: Points, parts: list[tuple[Measure, slice]]) -> Iterator[str]:
    """Write one line a slot with a field a measure; the parts are of one metric and share their slots."""
    length = parts[0][1].stop - parts[0][1].start
    for start in range(0, length, _LINES):
        fields, columns = [], []
        for measure, whole in parts:
            part = slice(whole.start + start, min(whole.stop, whole.start + start + _LINES))
            qualities = points.qualities[part]
            columns.append(points.values[part].tolist())
            if (qualities == qualities[0]).all():
                fields.append(f"{measure}=%r,{measure}{QUALITY}={qualities[0]}i")
            else:
                fields.append(f"{measure}=%r,{measure}{QUALITY}=%di")
                columns.append(qualities.tolist())
        columns.append((points.slots[part] * SLOT_SECONDS).tolist())
        template = f"{head}{','.join(fields)} %d\n"
        yield template * len(columns[0]) % tuple(chain.from_iterable(zip(*columns, strict=True)))


def _latest(points: Points) -> Points:
    """Order by series and slot, keeping of equal ones the last."""
    index, slots = points.series_index, points.slots
    later = (np.diff(index) > 0) | ((np.diff(index) == 0) & (np.diff(slots) > 0))
    if later.all():
        return points
    order = np.lexsort((slots, index))
    keep = np.append((np.diff(index[order]) != 0) | (np.diff(slots[order]) != 0), True)
    order = order[keep]
    return Points(points.series, index[order], slots[order], points.values[order], points.qualities[order])


def read_rows(body: bytes) -> list[dict[str, str]]:
    """Read a small answer: a row a dictionary. Tables of different columns each bring their own header."""
    rows: list[dict[str, str]] = []
    header: list[str] | None = None
    text = body.decode().replace("\r\n", "\n")  # the server writes CRLF, also for a newline within a value
    for row in csv.reader(io.StringIO(text, newline="")):
        if not row:
            header = None
        elif header is None:
            header = row
        else:
            rows.append(dict(zip(header, row, strict=True)))
    return rows


class TableReader:
    """Reads the rows of a large answer as they arrive: numbers at numpy's speed, names once a table.

    The answer's columns are `_time`, `_value`, `_field`, `exchange` and `pair`, each table of one series; no name needs
    quotes. After the last chunk call `finish`; then the columns are complete.
    """

    def __init__(self) -> None:
        self.series: list[Series] = []
        self._places: dict[Series, int] = {}
        self._indices: list[Indices] = []
        self._slots: list[Slots] = []
        self._values: list[Floats] = []
        self._rest = b""
        self._columns: dict[str, int] = {}

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; raises ValueError where they are not such an answer."""
        data = self._rest + chunk
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if end:
            self._read(data[:end])

    def finish(self) -> tuple[Indices, Slots, Floats]:
        """Return the columns: for each row the place of its series in `series`, its slot and its value."""
        if self._rest.strip():
            raise ValueError(f"the answer breaks off: {self._rest[:80]!r}")
        return (
            np.concatenate([np.empty(0, np.int32), *self._indices]),
            np.concatenate([np.empty(0, np.int64), *self._slots]),
            np.concatenate([np.empty(0), *self._values]),
        )

    def _read(self, data: bytes) -> None:
        data = data.replace(b"\r\n", b"\n")
        if not self._columns:
            header, _, data = data.lstrip(b"\n").partition(b"\n")
            names = header.decode().split(",")
            if "error" in names:
                raise ValueError(data[:300].decode(errors="replace").strip())
            if header and names != _COLUMNS:
                raise ValueError(f"columns {names}")
            self._columns = {name: place for place, name in enumerate(names)}
        if not data.strip():
            return
        text = np.frombuffer(data.rstrip(b"\n") + b"\n", np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        commas = np.flatnonzero(text == ord(","))
        width = len(self._columns)
        if len(commas) != len(ends) * (width - 1):
            raise ValueError(f"rows that do not have {width} columns")
        starts = np.append(0, ends[:-1] + 1)
        edges = np.column_stack((starts - 1, commas.reshape(len(ends), width - 1), ends))
        if (edges[:, 1] < starts).any() or (edges[:, -2] > ends).any():
            raise ValueError(f"rows that do not have {width} columns")
        self._append(text, edges)

    def _append(self, text: NDArray[np.uint8], edges: NDArray[np.int64]) -> None:
        def cell(row: int, name: str) -> str:
            place = self._columns[name]
            return text[edges[row, place] + 1 : edges[row, place + 1]].tobytes().decode()

        tables, minutes, values = _numbers(text, edges, self._columns["table"])
        first = np.flatnonzero(np.diff(tables, prepend=-1))
        places = []
        for row in first.tolist():
            name = cell(row, "_field").removesuffix(QUALITY)
            series = Series(f"{cell(row, 'exchange')}:{cell(row, 'pair')}", Measure(name))
            if series not in self._places:
                self._places[series] = len(self.series)
                self.series.append(series)
            places.append(self._places[series])
        self._indices.append(np.repeat(np.array(places, np.int32), np.diff(first, append=len(edges))))
        self._slots.append(_slots(minutes))
        self._values.append(values)


def _numbers(text: NDArray[np.uint8], edges: NDArray[np.int64], table: int) -> tuple[Floats, Floats, Floats]:
    """Cut table, time and value, which stand side by side, out of every row, and parse them all at once.

    A time is 2026-11-24T12:00:00Z; without its punctuation and seconds it is a number, too.
    """
    time = edges[:, table + 1] + 1
    if (edges[:, table + 2] - time != len("2026-11-24T12:00:00Z")).any():
        raise ValueError("times that are not whole seconds of UTC")
    steps = np.zeros(len(text) + 1, np.int8)
    steps[edges[:, table] + 1] = 1
    steps[edges[:, table + 3] + 1] = -1
    kept = steps.cumsum(dtype=np.int8)[:-1].astype(bool)
    for punctuation in (4, 7, 10, 13, 16, 17, 18, 19):
        kept[time + punctuation] = False
    numbers = np.fromstring(text[kept].tobytes(), np.float64, sep=",")
    if len(numbers) != 3 * len(edges):
        raise ValueError("a value that is not a number")
    columns = numbers.reshape(len(edges), 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]


def _slots(minutes: Floats) -> Slots:
    """Turn times written as YYYYMMDDhhmm into slots; the days are few."""
    days, which = np.unique(minutes // 10_000, return_inverse=True)
    dates = [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in (f"{number:08.0f}" for number in days.tolist())]
    first = np.array(dates, "datetime64[m]").astype(np.int64)[which]
    clock = (minutes % 10_000).astype(np.int64)
    return first + clock // 100 * 60 + clock % 100
