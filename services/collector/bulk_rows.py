"""Rows of files to points: a chunk of rows at once where all are good, else one by one with what is wrong with each.

It knows the forms of the files and what a point may be; it reads no file and writes to no store.
"""

from __future__ import annotations

import csv
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import numpy as np

from services.core.errors import InvalidInputError
from services.core.model import (
    MEASURES,
    SIGNED_MEASURES,
    SLOT_SECONDS,
    Floats,
    Indices,
    Measure,
    Metric,
    Points,
    Quality,
    Series,
    Slots,
    Window,
    slot_time,
)
from services.core.store.base import RETENTION_DAYS

HEADER = ["metric", "measure", "time", "value"]

_CANDLE = ["time", "open", "high", "low", "close", "volume", "trades"]
_PRICE, _VOLUME = 4, 5
_TELLING_ROWS = 20
_REMEMBERED = 200_000

K = TypeVar("K")
V = TypeVar("V")


class BadRowError(Exception):
    """A row that cannot be a point, and why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What some lines told."""

    points: Points
    row_count: int
    """Rows, without empty lines."""
    problems: list[tuple[int, str]]
    """The lines of the rows that cannot be points, and why."""


class Rows(ABC):
    """Rows of one form. Times must lie in the window that a store will take."""

    width: int

    def __init__(self, window: Window) -> None:
        self._window = window
        self._slots = _Remembering(self._read_slot)

    def read(self, lines: list[str], first: int) -> Chunk:
        """Turn lines into points; `first` is the number of the first of them."""
        self._slots.forget_many()
        rows = [row for row in csv.reader(lines) if row]
        if {len(row) for row in rows} <= {self.width}:
            try:
                return Chunk(self._at_once(rows), len(rows), [])
            except (BadRowError, ValueError):
                pass  # looked for one by one
        good: list[list[str]] = []
        problems: list[tuple[int, str]] = []
        reader = csv.reader(lines)
        for row in reader:
            try:
                if row:
                    self._check(row)
                    good.append(row)
            except BadRowError as problem:
                problems.append((first + reader.line_num - 1, str(problem)))
        return Chunk(self._at_once(good), len(good) + len(problems), problems)

    @abstractmethod
    def _at_once(self, rows: list[list[str]]) -> Points:
        """Turn rows of the right width into points; raise BadRowError or ValueError where any of them is bad."""

    @abstractmethod
    def _check(self, row: list[str]) -> None:
        """Raise what is wrong with a row."""

    def _slots_of(self, texts: Sequence[str]) -> Slots:
        return np.fromiter(map(self._slots.__getitem__, texts), np.int64, len(texts))

    def _read_slot(self, text: str) -> int:
        """Read a time: ISO 8601 in UTC, or whole seconds since the epoch."""
        try:
            if text.isascii() and text.isdecimal():
                seconds = int(text)
            else:
                moment = datetime.fromisoformat(text)
                if moment.utcoffset():
                    raise BadRowError(f"the time {text!r} is not in UTC; end it with Z")
                stamp = moment.replace(tzinfo=UTC).timestamp()
                seconds = int(stamp) if stamp.is_integer() else 1
        except ValueError:
            raise BadRowError(
                f"the time is {text!r:.40}; give seconds since 1970 or ISO 8601, as 2026-11-24T12:00:00Z"
            ) from None
        slot, rest = divmod(seconds, SLOT_SECONDS)
        if rest:
            raise BadRowError(f"the time {text!r:.40} is not on a whole minute")
        if slot < self._window.start:
            oldest = f"{slot_time(self._window.start):%Y-%m-%dT%H:%MZ}"
            raise BadRowError(f"the time {text!r:.40} is beyond the {RETENTION_DAYS} days kept; the oldest is {oldest}")
        if slot >= self._window.end:
            raise BadRowError(f"the time {text!r:.40} lies in the future")
        return slot


class PointRows(Rows):
    """`metric,measure,time,value`."""

    width = len(HEADER)

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._series: list[Series] = []
        self._places = _Remembering(self._read_series)

    def _at_once(self, rows: list[list[str]]) -> Points:
        metrics, measures, times, texts = zip(*rows, strict=True) if rows else ((), (), (), ())
        pairs = zip(metrics, measures, strict=True)
        places = np.fromiter(map(self._places.__getitem__, pairs), np.int64, len(rows))
        slots = self._slots_of(times)
        values = _numbers(texts)
        used, inverse = np.unique(places, return_inverse=True)
        index: Indices = inverse.astype(np.int32)
        series = tuple(self._series[place] for place in used.tolist())
        lowest = np.array([_lowest(one.measure) for one in series])
        if (values < lowest[index]).any():
            raise BadRowError("a value is below what its measure may be")
        return Points(series, index, slots, values, _backfilled(len(rows)))

    def _check(self, row: list[str]) -> None:
        if len(row) != self.width:
            raise BadRowError(f"{len(row)} columns instead of {','.join(HEADER)}")
        metric, measure, time, text = row
        series = self._series[self._places[metric, measure]]
        _ = self._slots[time]
        _check_value(text, "the value", f"the {series.measure}", series.measure)

    def _read_series(self, key: tuple[str, str]) -> int:
        metric, measure = key
        try:
            Metric.parse(metric)
        except InvalidInputError as error:
            raise BadRowError(str(error)) from None
        if measure not in list(Measure):
            raise BadRowError(f"unknown measure {measure!r:.40}; one of {', '.join(MEASURES)}")
        self._series.append(Series(metric, Measure(measure)))
        return len(self._series) - 1


class CandleRows(Rows):
    """Kraken's OHLCVT, `time,open,high,low,close,volume,trades`, of one metric."""

    width = len(_CANDLE)

    def __init__(self, metric: str, window: Window) -> None:
        super().__init__(window)
        self._series = (Series(metric, Measure.PRICE), Series(metric, Measure.VOLUME_1M))
        self._told = False

    def _at_once(self, rows: list[list[str]]) -> Points:
        columns = list(zip(*rows, strict=True)) if rows else [()] * self.width
        slots = self._slots_of(columns[0])
        closes, volumes = _numbers(columns[_PRICE]), _numbers(columns[_VOLUME])
        if (closes < _lowest(Measure.PRICE)).any() or (volumes < 0).any():
            raise BadRowError("a close or a volume is below what it may be")
        self._check_length(slots)
        index = np.repeat(np.arange(2, dtype=np.int32), len(rows))
        values = np.concatenate([closes, volumes])
        return Points(self._series, index, np.tile(slots, 2), values, _backfilled(2 * len(rows)))

    def _check(self, row: list[str]) -> None:
        if len(row) != self.width:
            raise BadRowError(f"{len(row)} columns instead of {','.join(_CANDLE)}")
        _ = self._slots[row[0]]
        _check_value(row[_PRICE], "the close", "the close", Measure.PRICE)
        _check_value(row[_VOLUME], "the volume", "the volume", Measure.VOLUME_1M)

    def _check_length(self, slots: Slots) -> None:
        """Refuse the file where all of its first candles begin at multiples of five minutes."""
        if not self._told and len(slots) >= _TELLING_ROWS and not (slots % 5).any():
            raise InvalidInputError("from", "its candles are not of one minute", "the file whose name ends in _1.csv")
        self._told = self._told or len(slots) > 0


class _Remembering(dict[K, V], Generic[K, V]):
    """What a function made of each key, asked once a key."""

    def __init__(self, read: Callable[[K], V]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, key: K) -> V:
        value = self[key] = self._read(key)
        return value

    def forget_many(self) -> None:
        """Forget all where there is much to remember."""
        if len(self) > _REMEMBERED:
            self.clear()


def _numbers(texts: Sequence[str]) -> Floats:
    values: Floats = np.fromiter(map(float, texts), np.float64, len(texts))
    # float() takes 1_000 as well, which is no number in any file.
    if not np.isfinite(values).all() or "_" in "".join(texts):
        raise BadRowError("a value is no finite number")
    return values


def _lowest(measure: Measure) -> float:
    if measure in SIGNED_MEASURES:
        return -math.inf
    return math.nextafter(0.0, 1.0) if measure is Measure.PRICE else 0.0


def _check_value(text: str, what: str, named: str, measure: Measure) -> None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise BadRowError(f"{what} is {text!r:.40}, not a number")
    if value < _lowest(measure):
        raise BadRowError(f"{named} is {text}, {'not above 0' if measure is Measure.PRICE else 'negative'}")


def _backfilled(count: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.full(count, Quality.BACKFILLED, np.uint8)
