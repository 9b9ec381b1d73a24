"""Points out of a bucket: the query for them, its answer parsed as it arrives, and the columns that readers want.

What comes from users reaches Flux only as parameters, which the client sends as values beside the query. Ranges are
explicit and from our clock, never `now()` of the server's.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np

from services.core.errors import StoreUnavailableError
from services.core.model import (
    SLOT_SECONDS,
    Floats,
    Indices,
    Measure,
    Points,
    Quality,
    Series,
    Slot,
    Window,
    WindowColumns,
)
from services.core.store.influx.bucket import InfluxBucket
from services.core.store.influx.format import POINT, QUALITY, TableReader

TAGS = '|> keep(columns: ["_time", "_value", "_field", "exchange", "pair"])'
"""Ends a query for points: the columns that tell what a value is and whose."""
_TAGS_OF_ONE = '|> keep(columns: ["_time", "_value", "exchange", "pair"])'
"""The same for points of one measure, whose name would be a tenth of the answer."""

_READ_SLOTS = 2880
_READERS = 2
_SHORT_SLOTS = 60


def ranged(query: str, window: Window) -> tuple[str, dict[str, Any]]:
    """Return a query of the bucket's points in the window, and the parameters that it needs for that."""
    text = f"from(bucket: bucket) |> range(start: start, stop: stop) {query}"
    return text, {"start": _time(window.start), "stop": _time(window.end)}


def read_points(bucket: InfluxBucket, window: Window, metrics: Sequence[str], measures: Sequence[Measure]) -> Points:
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
        return f'|> filter(fn: (r) => r._measurement == "{POINT}"{of_metrics} and ({fields})) {more}'

    def read_values(part: Window) -> TableReader:
        if len(measures) > 1:
            return _read_table(bucket, query("", TAGS), part, parameters, TableReader())
        return _read_table(bucket, query("", _TAGS_OF_ONE), part, parameters, TableReader(measures[0]))

    def read_exceptions() -> TableReader:
        filtered = f"|> filter(fn: (r) => r._value != {int(Quality.OBSERVED)}) {TAGS}"
        return _read_table(bucket, query(QUALITY, filtered), window, parameters, TableReader())

    if len(window) <= _SHORT_SLOTS:  # two threads would cost more than they save
        return _joined(window, [read_values(window)], read_exceptions())
    parts = [
        Window(Slot(start), Slot(min(start + _READ_SLOTS, window.end)))
        for start in range(window.start, window.end, _READ_SLOTS)
    ]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="tickwatch-influx") as pool:
        exceptions = pool.submit(read_exceptions)
        return _joined(window, list(pool.map(read_values, parts)), exceptions.result())


def dense(window: Window, points: Points) -> WindowColumns:
    """Lay points out as the rows of the window, NaN where there is none."""
    series, rows = _in_order(points)
    values: Floats = np.full((len(series), len(window)), np.nan)
    qualities = np.zeros((len(series), len(window)), np.uint8)
    values[rows, points.slots - window.start] = points.values
    qualities[rows, points.slots - window.start] = points.qualities
    return WindowColumns(window, series, values, qualities)


def ordered(points: Points) -> Points:
    """Order points by slot, then by series; of what several reads returned one is kept."""
    series, index = _in_order(points)
    order = np.lexsort((index, points.slots))
    if len(order):
        repeated = (np.diff(index[order]) == 0) & (np.diff(points.slots[order]) == 0)
        order = order[np.append(~repeated, True)]
    return Points(series, index[order], points.slots[order], points.values[order], points.qualities[order])


def _in_order(points: Points) -> tuple[tuple[Series, ...], Indices]:
    """Return the series in their order, and for each point the place of its series there."""
    series = tuple(sorted(points.series))
    ranks = {name: rank for rank, name in enumerate(series)}
    return series, np.array([ranks[name] for name in points.series], np.int32)[points.series_index]


def _read_table(
    bucket: InfluxBucket, query: str, window: Window, parameters: dict[str, str], reader: TableReader
) -> TableReader:
    text, given = ranged(query, window)
    for chunk in bucket.ask(text, {**parameters, **given}):
        try:
            reader.feed(chunk)
        except ValueError as error:
            raise StoreUnavailableError(bucket.url, f"the answer cannot be read: {error}") from error
    return reader


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


def _time(slot: int) -> datetime:
    return datetime.fromtimestamp(slot * SLOT_SECONDS, UTC)
