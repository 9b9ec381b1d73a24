"""The numbers of series: what stands for a metric and a measure in every other table.

Numbers are never reused, so whoever has read them once only asks for new ones. It knows nothing of points.
"""

from __future__ import annotations

import sqlite3
import threading

from services.core.model import Measure, Series


class SeriesNumbers:
    """Names by number and numbers by name, as far as they are committed; shared by all threads of a store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[int, Series] = {}
        self._numbers: dict[Series, int] = {}

    def names(self, connection: sqlite3.Connection) -> dict[int, Series]:
        """Return every series by number, in ascending order of numbers."""
        with self._lock:
            newest = next(reversed(self._names), 0)
            for number, metric, measure in connection.execute(
                "SELECT id, metric, measure FROM series WHERE id > ? ORDER BY id", (newest,)
            ):
                series = Series(metric, Measure(measure))
                self._names[number] = series
                self._numbers[series] = number
            return self._names.copy()

    def number(self, connection: sqlite3.Connection, series: Series) -> int | None:
        """Return a series' number, None for a series that has none."""
        known = self._numbers.get(series)
        if known is not None:
            return known
        row = connection.execute(
            "SELECT id FROM series WHERE metric = ? AND measure = ?", (series.metric, series.measure.value)
        ).fetchone()
        return None if row is None else int(row[0])

    def number_for_writing(self, connection: sqlite3.Connection, series: Series) -> int:
        """Return a series' number, one of its own where it has none."""
        known = self.number(connection, series)
        if known is not None:
            return known
        # Not remembered before the commit: a transaction that fails takes the number back.
        (number,) = connection.execute(
            "INSERT INTO series (metric, measure) VALUES (?, ?) RETURNING id", (series.metric, series.measure.value)
        ).fetchone()
        return int(number)
