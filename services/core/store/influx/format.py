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
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.core.model import DAY_SLOTS, SLOT_SECONDS, Floats, Indices, Measure, Metric, Points, Series, Slots

POINT = "metric"
QUALITY = "_quality"

_LINES = 8192
_COLUMNS = ["", "result", "table", "_time", "_value", "exchange", "pair"]
_TABLE, _TIME, _VALUE = (_COLUMNS.index(name) for name in ("table", "_time", "_value"))
_WORD = 8

# DDThh:mm as a number: which of its bytes are punctuation, and what they hold; :00Z likewise.
_MARKS = np.uint64(int.from_bytes(b"\0\0\xff\0\0\xff\0\0", "little"))
_MARKED = np.uint64(int.from_bytes(b"\0\0T\0\0:\0\0", "little"))
_WHOLE = np.uint64(int.from_bytes(b":00Z", "little"))


def encode_points(points: Points) -> Iterator[tuple[str, bytes]]:
    """Yield metrics and their line protocol, some thousand lines at a time, seconds as precision.

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
            for lines in _lines(head, points, parts):
                yield name, lines


def _lines(head: str, points: Points, parts: list[tuple[Measure, slice]]) -> Iterator[bytes]:
    """Write one line a slot with a field a measure; the parts are of one metric and share their slots."""
    length = parts[0][1].stop - parts[0][1].start
    for start in range(0, length, _LINES):
        fields, columns = [], []
        for measure, whole in parts:
            part = slice(whole.start + start, min(whole.stop, whole.start + start + _LINES))
            qualities = points.qualities[part]
            columns.append(_texts(points.values[part]))
            if (qualities == qualities[0]).all():
                fields.append(f"{measure}=%b,{measure}{QUALITY}={qualities[0]}i")
            else:
                fields.append(f"{measure}=%b,{measure}{QUALITY}=%bi")
                columns.append(_texts(qualities))
        columns.append(_texts(points.slots[part] * SLOT_SECONDS))
        template = f"{head}{','.join(fields)} %b\n".encode()
        yield template * len(columns[0]) % tuple(chain.from_iterable(zip(*columns, strict=True)))


def _texts(column: NDArray[Any]) -> list[bytes]:
    """Return the shortest texts that read back as the very same numbers."""
    return orjson.dumps(column.tolist())[1:-1].split(b",")


def _latest(points: Points) -> Points:
    """Order by series and slot, keeping of equal ones the last."""
    index, slots = points.series_index, points.slots
    later = (np.diff(index) > 0) | ((np.diff(index) == 0) & (np.diff(slots) > 0))
    if later.all():
        return points
    order = np.lexsort((slots, index))
    keep = np.append((np.diff(index[order]) != 0) | (np.diff(slots[order]) != 0), True)
    return points.select(order[keep])


def quoted(text: str) -> str:
    """Return a text as the value of a field in line protocol."""
    inner = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'


def escaped(tag: str) -> str:
    """Return a text as the value of a tag in line protocol."""
    for character in ("\\", ",", "=", " "):
        tag = tag.replace(character, f"\\{character}")
    return tag


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
    quotes. Where all of it is of one measure, the answer has no `_field`. After the last chunk call `finish`; then the
    columns are complete. The sign of a zero is lost.
    """

    def __init__(self, measure: Measure | None = None) -> None:
        self.series: list[Series] = []
        self._measure = measure
        self._columns = _COLUMNS[:]
        if measure is None:
            self._columns.insert(_VALUE + 1, "_field")
        self._separators = np.frombuffer(b"," * (len(self._columns) - 1) + b"\n", np.uint8)
        self._places: dict[Series, int] = {}
        self._indices: list[Indices] = []
        self._slots: list[Slots] = []
        self._values: list[Floats] = []
        self._rest = b""
        self._begun = False

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
        if not self._begun:
            header, _, data = data.lstrip(b"\r\n").partition(b"\n")
            names = header.decode().rstrip("\r").split(",")
            if "error" in names:
                raise ValueError(data[:300].decode(errors="replace").strip())
            if header and names != self._columns:
                raise ValueError(f"columns {names}")
            self._begun = True
        data = data.strip(b"\r\n")
        if not data:
            return
        text = np.frombuffer(data + b"\n", np.uint8)
        ends = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
        width = len(self._columns)
        if len(ends) % width or (text[ends].reshape(-1, width) != self._separators).any():
            raise ValueError(f"rows that do not have {width} columns")
        self._append(text, ends.reshape(-1, width))

    def _append(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """Take rows by where each of their cells ends."""

        def cell(row: int, name: str) -> str:
            place = self._columns.index(name)
            return text[ends[row, place - 1] + 1 : ends[row, place]].tobytes().decode().rstrip("\r")

        if ends[0, _TABLE] < _WORD:
            raise ValueError("rows without the name of their result")
        # The eight bytes before the time end with the table's number, so they change where a table begins.
        tables = _words(text, ends[:, _TABLE] + 1 - _WORD)
        first = np.flatnonzero(np.append(True, tables[1:] != tables[:-1]))
        places = []
        for row in first.tolist():
            measure = self._measure or Measure(cell(row, "_field").removesuffix(QUALITY))
            series = Series(f"{cell(row, 'exchange')}:{cell(row, 'pair')}", measure)
            if series not in self._places:
                self._places[series] = len(self.series)
                self.series.append(series)
            places.append(self._places[series])
        self._indices.append(np.repeat(np.array(places, np.int32), np.diff(first, append=len(ends))))
        self._slots.append(_slots(text, ends[:, _TABLE] + 1, ends[:, _TIME]))
        self._values.append(_values(text, ends[:, _TIME] + 1, ends[:, _VALUE]))


def _words(text: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the eight bytes from each of these places on as a number, the first byte the least significant."""
    everywhere = np.ndarray((len(text) + 1 - _WORD,), "<u8", text.data, strides=(1,))
    words: NDArray[np.uint64] = everywhere[starts]
    return words


def _slots(text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Slots:
    """Read times, which are of whole minutes: 2026-11-24T12:00:00Z. The months are few, the rest is arithmetic."""
    if (ends - starts != len("2026-11-24T12:00:00Z")).any():
        raise ValueError("times that are not whole minutes of UTC")
    months, minutes, seconds = (_words(text, starts + offset) for offset in (0, 8, 12))
    if ((minutes & _MARKS) != _MARKED).any() or (seconds >> np.uint64(8 * 4) != _WHOLE).any():
        raise ValueError("times that are not whole minutes of UTC")
    changes = np.flatnonzero(np.append(True, months[1:] != months[:-1]))
    firsts = [
        np.datetime64(int(month).to_bytes(8, "little").decode().rstrip("-"), "m").astype(np.int64)
        for month in months[changes].tolist()
    ]
    first = np.repeat(np.array(firsts, np.int64), np.diff(changes, append=len(starts)))

    def two(place: int) -> Slots:
        """Read the two digits at this place of DDThh:mm."""
        tens, ones = ((minutes >> np.uint64(8 * at)) & np.uint64(15) for at in (place, place + 1))
        return (tens * np.uint64(10) + ones).astype(np.int64)

    return first + (two(0) - 1) * DAY_SLOTS + two(3) * 60 + two(6)


def _values(text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Floats:
    """Copy the cells, each with the comma behind it, one after the other, and read them all at once as JSON."""
    lengths = ends - starts + 1
    moves = starts - np.append(0, lengths.cumsum()[:-1])
    joined = text[np.repeat(moves, lengths) + np.arange(lengths.sum())]
    try:
        return np.array(orjson.loads(b"[%b]" % joined[:-1].tobytes()), np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("a value that is not a number") from error
