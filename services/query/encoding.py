"""Lists of metrics and rankings as bytes, without a message object for each row.

A list of a thousand metrics has four thousand summaries, and protobuf's Python objects cost four microseconds each. But
for its value a summary is nearly always one of a few: same measure, same newest slot, same count. So what stands around
the value is put together once, as protobuf would write it (https://protobuf.dev/programming-guides/encoding/). It
knows the contract's field numbers, and no request.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable

from services.core.model import DAY_SLOTS, SLOT_SECONDS, Measure
from services.core.rpc.convert import MEASURE_TO_WIRE, varint
from services.query.questions import ListedMetric, MeasureSummary, Ranking

_DOUBLE = struct.Struct("<d").pack
_ZERO = _DOUBLE(0.0)
_VARINT, _FIXED64, _LENGTH = 0, 1, 2
_varint = functools.lru_cache(1 << 15)(varint)
"""For ranks and lengths, which are the same few thousand in each ranking."""


class MetricsEncoder:
    """Encodes lists of metrics, and keeps each metric's bytes for as long as its summaries are the same objects.

    Pages of other sizes, or of one exchange, are then only joined. For one thread at a time.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[tuple[MeasureSummary, ...], bytes]] = {}
        self._around: dict[tuple[Measure, int, int], tuple[bytes, bytes]] = {}

    def encode(self, listed: Iterable[ListedMetric]) -> bytes:
        """Encode `ListMetricsResponse.metrics`; the bytes may be appended to those of the message's other fields."""
        parts: list[bytes] = []
        for metric in listed:
            measures, row = self._rows.get(metric.metric, ((), b""))
            if measures is not metric.measures:
                if measures:  # a later generation: nothing of the one before will be asked for again
                    self._rows, self._around = {}, {}
                row = self._row(metric)
                self._rows[metric.metric] = metric.measures, row
            parts.append(row)
        return b"".join(parts)

    def _row(self, metric: ListedMetric) -> bytes:
        exchange, _, pair = metric.metric.partition(":")
        row = [_text(1, metric.metric), _text(2, exchange), _text(3, pair)]
        for summary in metric.measures:
            key = (summary.measure, summary.last_slot, summary.point_count)
            if key not in self._around:
                self._around[key] = _around(summary)
            value = _DOUBLE(summary.last_value)
            if value == _ZERO:
                row.append(_summary_of_zero(summary))
            else:
                before, after = self._around[key]
                row += (before, value, after)
        return _message(1, b"".join(row))


def encode_rankings(rankings: Iterable[Ranking], slots: int) -> bytes:
    """Encode `RankMetricsResponse.rankings` of a window of so many slots; to be appended to as the above."""
    tails: dict[int, bytes] = {}
    parts: list[bytes] = []
    row_tag, name_tag, rank_tag, value_tag = _tag(1, _LENGTH), _tag(1, _LENGTH), _tag(2, _VARINT), _tag(3, _FIXED64)
    for metric, rank, value, count in rankings:
        if count not in tails:
            tails[count] = _tag(4, _VARINT) + varint(count) + _tag(5, _FIXED64) + _DOUBLE(count / slots)
        name, packed = metric.encode(), _DOUBLE(value)
        shown = b"" if packed == _ZERO else value_tag + packed
        body = name_tag + _varint(len(name)) + name + rank_tag + _varint(rank) + shown + tails[count]
        parts += (row_tag, _varint(len(body)), body)
    return b"".join(parts)


def _around(summary: MeasureSummary) -> tuple[bytes, bytes]:
    """Return what stands before and after the value of a summary, the length of the whole included."""
    before, after = _fields(summary)
    before += _tag(3, _FIXED64)
    return _tag(4, _LENGTH) + varint(len(before) + len(_ZERO) + len(after)) + before, after


def _summary_of_zero(summary: MeasureSummary) -> bytes:
    """Return a summary whose value is zero, which proto3 leaves out."""
    body = b"".join(_fields(summary))
    return _message(4, body)


def _fields(summary: MeasureSummary) -> tuple[bytes, bytes]:
    seconds = _tag(1, _VARINT) + varint(summary.last_slot * SLOT_SECONDS)
    before = _tag(1, _VARINT) + varint(MEASURE_TO_WIRE[summary.measure]) + _tag(2, _LENGTH) + varint(len(seconds))
    count = _tag(4, _VARINT) + varint(summary.point_count)
    return before + seconds, count + _tag(5, _FIXED64) + _DOUBLE(summary.point_count / DAY_SLOTS)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, body: bytes) -> bytes:
    return _tag(field, _LENGTH) + varint(len(body)) + body


@functools.cache
def _tag(field: int, kind: int) -> bytes:
    return varint(field << 3 | kind)
