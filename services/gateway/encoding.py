"""The client's results as JSON and CSV.

Names and words are those of the contract in its own spelling (`start_time`, `price`), so that a field is found in
`protos/` by its name. A value that does not exist is null in JSON and empty in CSV.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
import tickwatch

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z

Document = dict[str, Any]


def to_json(document: object) -> bytes:
    """Return a document as JSON; datetimes as RFC 3339 with Z, NaN and infinities as null."""
    return orjson.dumps(document, option=_OPTIONS)


def metrics_document(metrics: Iterable[tickwatch.Metric]) -> Document:
    """Return metrics and what their last 24 hours hold."""
    return {
        "metrics": [
            {
                "name": metric.name,
                "exchange": metric.exchange,
                "pair": metric.pair,
                "measures": [
                    {
                        "measure": summary.measure,
                        "last_time": summary.last_time,
                        "last_value": summary.last_value,
                        "point_count": summary.point_count,
                        "coverage": summary.coverage,
                    }
                    for summary in metric.measures
                ],
            }
            for metric in metrics
        ]
    }


def history_document(history: tickwatch.History) -> Document:
    """Return one series, dense."""
    return {
        "metric": history.metric,
        "measure": history.measure,
        "start_time": history.start,
        "interval": duration_text(history.interval),
        "values": history.values,
        "missing": [range_document(span) for span in history.missing],
        "backfilled": [range_document(span) for span in history.backfilled],
        "coverage": history.coverage,
    }


def history_csv(history: tickwatch.History) -> bytes:
    """Return one series as lines of time and value."""
    values = ["" if text == "nan" else text for text in map(repr, history.values.tolist())]
    times = np.datetime_as_string(history.times.astype("datetime64[s]")).tolist()
    return "".join(
        ["time,value\n", *(f"{time}Z,{value}\n" for time, value in zip(times, values, strict=True))]
    ).encode()


def rankings_document(ranked: tickwatch.Rankings) -> Document:
    """Return a ranking."""
    return {
        "measure": ranked.measure,
        "statistic": ranked.statistic,
        "window": range_document(ranked.window),
        "rankings": [
            {
                "metric": ranking.metric,
                "rank": ranking.rank,
                "value": ranking.value,
                "point_count": ranking.point_count,
                "coverage": ranking.coverage,
            }
            for ranking in ranked.rankings
        ],
        "ranked_count": ranked.ranked_count,
        "unranked": ranked.unranked,
    }


def rankings_csv(ranked: tickwatch.Rankings) -> bytes:
    """Return a ranking as lines; the names in it need no quotes."""
    lines = ["rank,metric,value,point_count,coverage\n"]
    lines += [f"{r.rank},{r.metric},{r.value!r},{r.point_count},{r.coverage!r}\n" for r in ranked.rankings]
    return "".join(lines).encode()


def range_document(span: tickwatch.TimeRange) -> Document:
    """Return a half-open range."""
    return {"start_time": span.start, "end_time": span.end}


def duration_text(span: dt.timedelta) -> str:
    """Return a span as protobuf's JSON has it: 60s."""
    return f"{span // dt.timedelta(seconds=1)}s"
