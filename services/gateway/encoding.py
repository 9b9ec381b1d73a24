"""The client's results as JSON and CSV.

Names and words are those of the contract in its own spelling (`start_time`, `price`), so that a field is found in
`protos/` by its name. A value that does not exist is null in JSON and empty in CSV.
"""

from __future__ import annotations

import dataclasses
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


def points_document(batch: tickwatch.PointBatch) -> Document:
    """Return new points of one slot, as columns."""
    return {
        "slot_time": batch.time,
        "metrics": batch.metrics,
        "measures": batch.measures,
        "values": batch.values,
        "backfilled": batch.backfilled,
    }


def snapshot_document(snapshot: tickwatch.Snapshot) -> Document:
    """Return the open episodes, and how far rules have been evaluated."""
    return {
        "episodes": [
            {
                "id": episode.id,
                "state": episode.state,
                "opening": episode.opening.to_document(),
                "breach_count": episode.breach_count,
                "last_breach_time": episode.last_breach_time,
            }
            for episode in snapshot.episodes
        ],
        "evaluated_time": snapshot.evaluated_time,
    }


def bookmark_document(bookmark: tickwatch.Bookmark) -> Document:
    """Return how far rules have been evaluated."""
    return {"evaluated_time": bookmark.evaluated_time}


def breaches_document(page: tickwatch.BreachPage) -> Document:
    """Return a page of events."""
    return {"events": [event.to_document() for event in page.events], "next_page_token": page.next_page_token}


def rules_document(rules: tickwatch.Rules) -> Document:
    """Return the rules in force, and the silences."""
    return {
        "rules": [
            {
                "rule": rule_document(status.rule),
                "series_count": status.series_count,
                "open_count": status.open_count,
                "last_breach_time": status.last_breach_time,
                "breach_count_24h": status.breach_count_24h,
                "silence_ids": status.silence_ids,
            }
            for status in rules.rules
        ],
        "silences": [silence_document(silence) for silence in rules.silences],
        "loaded_time": rules.loaded_time,
        "load_error": rules.load_error,
    }


def rule_document(rule: tickwatch.Rule) -> Document:
    """Return a rule; its condition under the name of its kind."""
    condition = {field.name: getattr(rule.condition, field.name) for field in dataclasses.fields(rule.condition)}
    if isinstance(window := condition.get("window"), dt.timedelta):
        condition["window"] = duration_text(window)
    return {
        "name": rule.name,
        "selector": selector_document(rule.selector),
        "severity": rule.severity,
        "labels": rule.labels,
        "message": rule.message,
        "for_points": rule.for_points,
        type(rule.condition).__name__.lower(): condition,
        "version": rule.version,
    }


def selector_document(selector: tickwatch.Selector) -> Document:
    """Return a selector."""
    return {"exchanges": selector.exchanges, "metrics": selector.metrics, "measures": selector.measures}


def silence_document(silence: tickwatch.Silence) -> Document:
    """Return a silence."""
    return {
        "id": silence.id,
        "rules": silence.rules,
        "selector": selector_document(silence.selector),
        "start_time": silence.start,
        "end_time": silence.end,
        "comment": silence.comment,
    }


def rule_test_document(tested: tickwatch.RuleTest) -> Document:
    """Return what a rule would have fired."""
    return {
        "events": [event.to_document() for event in tested.events],
        "breach_count": tested.breach_count,
        "episode_count": tested.episode_count,
        "breaches_per_day": tested.breaches_per_day,
        "episodes_per_day": tested.episodes_per_day,
        "point_count": tested.point_count,
        "series_count": tested.series_count,
        "window": range_document(tested.window),
    }


def explanation_document(explained: tickwatch.Explanation) -> Document:
    """Return why a rule did or did not fire."""
    return {
        "slot_time": explained.time,
        "state": explained.state,
        "state_before": explained.state_before,
        "breached": explained.breached,
        "value": explained.value,
        "baseline": explained.baseline,
        "ratio": explained.ratio,
        "threshold": explained.threshold,
        "point_count": explained.point_count,
        "rule_version": explained.rule_version,
        "explanation": explained.explanation,
        "episode_id": explained.episode_id or None,
    }
