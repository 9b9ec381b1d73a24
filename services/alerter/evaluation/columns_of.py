"""Values from a store as evaluation wants them: the rows of given series, or columns as points, or some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.alerter.evaluation.steps import Block
from services.core.model import Points, Series, Window, WindowColumns
from services.core.store.base import MetricReader

_FEW_SERIES = 4


def block_of(reader: MetricReader, series: Sequence[Series], window: Window) -> Block:
    """Read a window of these series; row i of the block is of `series[i]`. Few series are read one by one."""
    values = np.full((len(series), len(window)), np.nan)
    if len(series) <= _FEW_SERIES:
        for row, each in enumerate(series):
            values[row] = reader.read_series(each, window).values
    else:
        places = {each: row for row, each in enumerate(series)}
        columns = reader.read_window(window, tuple({each.measure for each in series}))
        for row, each in enumerate(columns.series):
            if each in places:
                values[places[each]] = columns.values[row]
    return Block(window.start, values)


def points_of(columns: WindowColumns) -> Points:
    """Return what a window holds as points."""
    rows, places = np.nonzero(~np.isnan(columns.values))
    return Points(
        columns.series,
        rows.astype(np.int32),
        places + columns.window.start,
        columns.values[rows, places],
        columns.qualities[rows, places],
    )
