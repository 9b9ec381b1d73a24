"""What the live view shows, as plain values: a row a metric, the open episodes, the latest events.

Pure: it takes what the Python client yields, and knows neither the terminal nor where the services are.
"""

from __future__ import annotations

import collections
import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import tickwatch

SPARK_SLOTS = 60
"""How many minutes a row's line looks back."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_MOST_EVENTS = 200
SHOWN_MEASURES = ("price", "change_percentage", "volume_1m")


@dataclass(slots=True)
class Row:
    """One metric as it stands. Numbers that are unknown are NaN."""

    metric: str
    rank: int | None = None
    """Its place in the ranking that is shown; None where it has too few points for one."""
    statistic: float = math.nan
    values: dict[str, float] = field(default_factory=dict)
    """The newest value by measure: price, change_percentage (percent points), volume_1m (base units)."""
    prices: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=SPARK_SLOTS))
    """The prices of the last `SPARK_SLOTS` minutes, oldest first; empty until they are known."""
    slot: dt.datetime | None = None
    """The slot of the last of `prices`."""


class Board:
    """Everything that is shown. One task changes it; reading never waits."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self.newest: dt.datetime | None = None
        """The newest slot that has come."""
        self.evaluated: dt.datetime | None = None
        """Rules have been evaluated for every slot before this time."""
        self.events: collections.deque[tickwatch.Event] = collections.deque(maxlen=_MOST_EVENTS)
        """The newest last; an event is in it once."""
        self.rules: dict[str, tickwatch.Rule] = {}
        """Those that hold, by version: an event's says which of them found it."""
        self._open: dict[str, str] = {}

    def list(self, metrics: Iterable[tickwatch.Metric]) -> None:
        """Take which metrics there are, and their newest values; those that are gone leave the board."""
        before, self._rows = self._rows, {}
        for metric in metrics:
            row = self._rows[metric.name] = before.get(metric.name, Row(metric.name))
            for summary in metric.measures:
                if summary.measure in SHOWN_MEASURES:
                    row.values[summary.measure] = summary.last_value
                self._see(summary.last_time)

    def rank(self, rankings: tickwatch.Rankings) -> None:
        """Take a ranking; metrics that are not in it have no rank."""
        for row in self._rows.values():
            row.rank, row.statistic = None, math.nan
        for ranking in rankings.rankings:
            if ranked := self._rows.get(ranking.metric):
                ranked.rank, ranked.statistic = ranking.rank, ranking.value

    def remember(self, history: tickwatch.History) -> None:
        """Take the last hour's prices of a metric."""
        if row := self._rows.get(history.metric):
            row.prices.clear()
            row.prices.extend(history.values[-SPARK_SLOTS:].tolist())
            row.slot = history.start + history.interval * (len(history.values) - 1)

    def points(self, batch: tickwatch.PointBatch) -> bool:
        """Take new points; return whether one is of a metric that the board does not have."""
        unknown = False
        for metric, measure, value in zip(batch.metrics, batch.measures, batch.values.tolist(), strict=True):
            row = self._rows.get(metric)
            if row is None:
                unknown = True
            elif batch.time is not None and measure in SHOWN_MEASURES:
                self._point(row, measure, batch.time, value)
        if batch.time is not None:
            self._see(batch.time)
        return unknown

    def alert(self, item: tickwatch.Snapshot | tickwatch.Event | tickwatch.Bookmark) -> None:
        """Take what a watch of breaches has yielded."""
        match item:
            case tickwatch.Snapshot():
                self._open = {episode.id: episode.opening.metric for episode in item.episodes}
                self.evaluated = item.evaluated_time
            case tickwatch.Bookmark():
                self.evaluated = item.evaluated_time
            case tickwatch.Event():
                self._event(item)

    def known(self, events: Iterable[tickwatch.Event]) -> None:
        """Take events of the past, the newest first, as the log lists them."""
        for event in reversed(tuple(events)):
            self._keep(event)

    def learn(self, rules: tickwatch.Rules) -> None:
        """Take the rules that hold."""
        self.rules = {status.rule.version: status.rule for status in rules.rules}

    def rows(self, words: str = "") -> Sequence[Row]:
        """Return the rows, best rank first and then by name; only those whose name contains `words`, if given."""
        found = (row for row in self._rows.values() if words.upper() in row.metric)
        return sorted(found, key=lambda row: (row.rank is None, row.rank or 0, row.metric))

    def open_count(self, metric: str | None = None) -> int:
        """Return how many episodes are open: of a metric, or of all."""
        if metric is None:
            return len(self._open)
        return sum(each == metric for each in self._open.values())

    def _point(self, row: Row, measure: str, slot: dt.datetime, value: float) -> None:
        if row.slot is None:
            if self.newest is None or slot >= self.newest:
                row.values[measure] = value
            return
        ahead = round((slot - row.slot) / dt.timedelta(minutes=1))
        if ahead >= 0:
            row.values[measure] = value
        if measure != "price":
            return
        if ahead > 0:
            row.prices.extend([math.nan] * min(ahead - 1, SPARK_SLOTS))
            row.prices.append(value)
            row.slot = slot
        elif -ahead < len(row.prices):
            row.prices[ahead - 1] = value

    def _event(self, event: tickwatch.Event) -> None:
        self._keep(event)
        if event.opening:
            self._open[event.episode_id] = event.metric
        elif event.kind == "resolved":
            self._open.pop(event.episode_id, None)

    def _keep(self, event: tickwatch.Event) -> None:
        if all(event.id != other.id for other in self.events):
            self.events.append(event)

    def _see(self, slot: dt.datetime) -> None:
        if self.newest is None or slot > self.newest:
            self.newest = slot


def sparkline(values: Iterable[float], width: int) -> str:
    """Draw values as a line of blocks, `width` characters at most; a stretch without a value is a space.

    Each character is the mean of its share of the values, between the least (the lowest block) and the greatest.
    """
    column = np.fromiter(values, np.float64)
    if not len(column) or np.isnan(column).all():
        return ""
    parts = np.array_split(column, min(width, len(column)))
    means = [float(np.nanmean(part)) if not np.isnan(part).all() else math.nan for part in parts]
    least, greatest = float(np.nanmin(means)), float(np.nanmax(means))
    span = (greatest - least) or 1.0
    top = len(_BLOCKS) - 1
    return "".join(" " if math.isnan(mean) else _BLOCKS[round((mean - least) / span * top)] for mean in means)
