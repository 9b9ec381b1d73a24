"""The list of metrics as bytes, without a message object for each row.

A list of a thousand metrics has four thousand summaries, and protobuf's Python objects cost four microseconds each. But
for its value a summary is nearly always one of a few: same measure, same newest slot, same count. So what stands around
the value is put together once, as protobuf would write it (https://protobuf.dev/programming-guides/encoding/). It
knows the contract's field numbers, and no request.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from services.core.model import DAY_SLOTS, SLOT_SECONDS, Measure
from services.core.rpc.convert import MEASURE_TO_WIRE, varint
from services.query.questions import ListedMetric, MeasureSummary

_DOUBLE = struct.Struct("<d").pack
_ZERO = _DOUBLE(0.0)
_VARINT, _FIXED64, _LENGTH = 0, 1, 2


def encode_metrics(listed: Iterable[ListedMetric]) -> bytes:
    """Encode `ListMetricsResponse.metrics`; the bytes may be appended to those of the message's other fields."""
    around: dict[tuple[Measure, int, int], tuple[bytes, bytes]] = {}
    venues: dict[str, bytes] = {}
    parts: list[bytes] = []
    for metric in listed:
        exchange, _, pair = metric.metric.partition(":")
        if exchange not in venues:
            venues[exchange] = _text(2, exchange)
        row = [_text(1, metric.metric), venues[exchange], _text(3, pair)]
        for summary in metric.measures:
            key = (summary.measure, summary.last_slot, summary.point_count)
            if key not in around:
                around[key] = _around(summary)
            value = _DOUBLE(summary.last_value)
            if value == _ZERO:
                row.append(_summary_of_zero(summary))
            else:
                before, after = around[key]
                row += (before, value, after)
        body = b"".join(row)
        parts += (_tag(1, _LENGTH), varint(len(body)), body)
    return b"".join(parts)


def _around(summary: MeasureSummary) -> tuple[bytes, bytes]:
    """Return what stands before and after the value of a summary, the length of the whole included."""
    before, after = _fields(summary)
    before += _tag(3, _FIXED64)
    return _tag(4, _LENGTH) + varint(len(before) + len(_ZERO) + len(after)) + before, after


def _summary_of_zero(summary: MeasureSummary) -> bytes:
    """Return a summary whose value is zero, which proto3 leaves out."""
    body = b"".join(_fields(summary))
    return _tag(4, _LENGTH) + varint(len(body)) + body


def _fields(summary: MeasureSummary) -> tuple[bytes, bytes]:
    seconds = _tag(1, _VARINT) + varint(summary.last_slot * SLOT_SECONDS)
    before = _tag(1, _VARINT) + varint(MEASURE_TO_WIRE[summary.measure]) + _tag(2, _LENGTH) + varint(len(seconds))
    count = _tag(4, _VARINT) + varint(summary.point_count)
    return before + seconds, count + _tag(5, _FIXED64) + _DOUBLE(summary.point_count / DAY_SLOTS)


def _text(field: int, text: str) -> bytes:
    body = text.encode()
    return _tag(field, _LENGTH) + varint(len(body)) + body


def _tag(field: int, kind: int) -> bytes:
    return varint(field << 3 | kind)
