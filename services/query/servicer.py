"""QueryService on the wire: parses a request, asks `querying`, encodes the answer, and keeps the bytes while they hold.

An answer stays right until the generation ends (new points, or the window's end moves), so the same request's bytes get
the same answer's bytes: a dictionary look-up instead of parsing, computing and encoding.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import threading
from collections.abc import Iterable, Iterator

import numpy as np
from tickwatch.v1 import query_pb2 as wire

from services.core.errors import InvalidCursorError, InvalidInputError, InvalidPageTokenError
from services.core.model import DAY_SLOTS, Metric, Points, Slot
from services.core.ranking import Statistic
from services.core.rpc import convert, interceptors
from services.core.rpc.convert import from_wire_message, to_wire_duration, to_wire_range, to_wire_time
from services.core.rpc.interceptors import Context, Handler, Meter, StreamLimit
from services.core.rpc.paging import PageTokens, page_size
from services.core.rpc.server import RpcServer
from services.core.rpc.subscribing import subscribed
from services.core.store.base import Mark, MetricReader
from services.core.store.gate import StoreGate
from services.core.streaming import WatchTimes
from services.core.telemetry import QueryMetrics
from services.query.answers import Answers
from services.query.encoding import MetricsEncoder, encode_rankings
from services.query.querying import Querying
from services.query.questions import (
    LONGEST_INTERVAL_SLOTS,
    Aggregation,
    History,
    HistoryQuery,
    RankQuery,
)
from services.query.watching import PointBroadcast, Watching, WatchQuery

SERVICE = "tickwatch.v1.QueryService"

MOST_WATCHED = 1000
MOST_POINTS_PER_MESSAGE = 10_000
"""A slot with more points is sent as several messages, so that none exceeds the 4 MB a client takes by default."""

_LONGEST_CURSOR = 200
_RANK_PAYLOAD = struct.Struct(">qd")

_AGGREGATIONS: dict[int, Aggregation] = {
    wire.AGGREGATION_UNSPECIFIED: Aggregation.LAST,
    wire.AGGREGATION_LAST: Aggregation.LAST,
    wire.AGGREGATION_MEAN: Aggregation.MEAN,
    wire.AGGREGATION_MIN: Aggregation.MIN,
    wire.AGGREGATION_MAX: Aggregation.MAX,
}
_STATISTICS: dict[int, Statistic] = {
    wire.STATISTIC_UNSPECIFIED: Statistic.STDDEV,
    wire.STATISTIC_STDDEV: Statistic.STDDEV,
    wire.STATISTIC_COEFFICIENT_OF_VARIATION: Statistic.COEFFICIENT_OF_VARIATION,
    wire.STATISTIC_LOG_RETURN_STDDEV: Statistic.LOG_RETURN_STDDEV,
}


class QueryServicer:
    """The four methods, each from bytes to bytes."""

    def __init__(
        self,
        *,
        querying: Querying,
        reader: MetricReader,
        gate: StoreGate,
        broadcast: PointBroadcast,
        tokens: PageTokens,
        metrics: QueryMetrics,
        times: WatchTimes,
    ) -> None:
        self._querying = querying
        self._broadcast = broadcast
        self._tokens = tokens
        self._watching = Watching(reader, gate, times, _encode)
        self._answers = Answers()
        self._encoder = MetricsEncoder()
        self._metrics = metrics

    def handlers(self, server: RpcServer, limit: StreamLimit) -> dict[str, Handler]:
        """Return the service's methods for a server."""
        unary = {
            "ListMetrics": self.list_metrics,
            "GetHistory": self.get_history,
            "RankMetrics": self.rank_metrics,
        }
        handlers = {
            name: interceptors.unary(self._kept(name, method), Meter(server.metrics, SERVICE, name))
            for name, method in unary.items()
        }
        meter = Meter(server.metrics, SERVICE, "WatchPoints", interceptors.SERVER_STREAM)
        handlers["WatchPoints"] = interceptors.stream(self.watch_points, meter, limit, server.threads)
        return handlers

    def _kept(self, name: str, method: interceptors.UnaryBehavior) -> interceptors.UnaryBehavior:
        """Return the method with its answers kept for as long as a generation lasts."""
        present, find, make = self._querying.present, self._answers.find, self._answers.make
        # When a minute turns, everybody asks for the same long list at once: it is encoded once. Histories may wait for
        # the store, so nobody waits for them.
        turn = contextlib.nullcontext() if name == "GetHistory" else threading.Lock()

        def compute(request: bytes, context: Context) -> bytes:
            with turn:
                interceptors.require_time(context)
                generation = present()
                if (answer := find(generation, name, request)) is None:
                    answer = make(generation, name, request, lambda: method(request, context))
                    self._metrics.computed_answers.inc()
                return answer

        def answer(request: bytes, context: Context) -> bytes:
            return find(present(), name, request) or compute(request, context)

        return answer

    def list_metrics(self, request: bytes, _context: Context) -> bytes:
        """ListMetrics."""
        asked = from_wire_message(wire.ListMetricsRequest, request)
        size = page_size(asked.page_size)
        exchange = _from_wire_exchange(asked.exchange) if asked.HasField("exchange") else None
        arguments = (exchange or "").encode()
        after = self._tokens.open("ListMetrics", arguments, asked.page_token).decode() if asked.page_token else ""
        listed, more = self._querying.list_metrics(exchange, after, size)
        rest = wire.ListMetricsResponse()
        if more:
            rest.next_page_token = self._tokens.issue("ListMetrics", arguments, listed[-1].metric.encode())
        return self._encoder.encode(listed) + rest.SerializeToString()

    def get_history(self, request: bytes, context: Context) -> bytes:
        """GetHistory."""
        query = _from_wire_history_query(from_wire_message(wire.GetHistoryRequest, request))
        return _to_wire_history(self._querying.get_history(query, context.time_remaining()))

    def rank_metrics(self, request: bytes, _context: Context) -> bytes:
        """RankMetrics."""
        asked = from_wire_message(wire.RankMetricsRequest, request)
        size = page_size(asked.page_size)
        measure = convert.from_wire_measure(asked.measure)
        statistic = convert.from_wire_choice(_STATISTICS, asked.statistic, "statistic", wire.Statistic.Name)
        slots = convert.from_wire_slots(asked.window, "window", 2, DAY_SLOTS) if asked.HasField("window") else DAY_SLOTS
        arguments = f"{measure} {statistic} {slots}".encode()
        query = RankQuery(measure, statistic, slots)
        if asked.page_token:
            end, after = _from_rank_payload(self._tokens.open("RankMetrics", arguments, asked.page_token))
            query = RankQuery(measure, statistic, slots, end, after)
        page = self._querying.rank_metrics(query, size)
        rest = wire.RankMetricsResponse(
            ranked_count=page.ranked_count, unranked=page.unranked, window=to_wire_range(page.window)
        )
        if page.more:
            last = page.rankings[-1]
            payload = _RANK_PAYLOAD.pack(page.window.end, last.value) + last.metric.encode()
            rest.next_page_token = self._tokens.issue("RankMetrics", arguments, payload)
        return encode_rankings(page.rankings, len(page.window)) + rest.SerializeToString()

    def watch_points(self, request: bytes, context: Context) -> Iterator[bytes]:
        """WatchPoints: subscribed first, then what the cursor has missed, then what comes."""
        query = _from_wire_watch_query(from_wire_message(wire.WatchPointsRequest, request))
        self._querying.present()
        with subscribed(self._broadcast, context) as subscriber:
            for bodies, before, after in self._watching.follow(query, subscriber, context.time_remaining):
                yield from _messages(bodies, before, after)


def _encode(points: Points) -> Iterator[bytes]:
    """Encode points as one message a slot (or several of a large one), in ascending order of slots, without cursors."""
    order = np.argsort(points.slots, kind="stable")
    slots = points.slots[order]
    edges = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(slots)] if len(slots) else []
    for start, end in itertools.pairwise(edges):
        for first in range(start, end, MOST_POINTS_PER_MESSAGE):
            chosen = order[first : min(first + MOST_POINTS_PER_MESSAGE, end)]
            series = [points.series[index] for index in points.series_index[chosen].tolist()]
            message = wire.WatchPointsResponse(
                slot_time=to_wire_time(int(slots[first])),
                metrics=[one.metric for one in series],
                measures=[convert.MEASURE_TO_WIRE[one.measure] for one in series],
                qualities=[convert.QUALITY_TO_WIRE[quality] for quality in points.qualities[chosen].tolist()],
            )
            yield message.SerializeToString() + convert.packed_doubles(5, points.values[chosen])


def _messages(bodies: Iterable[bytes], before: Mark, after: Mark) -> Iterator[bytes]:
    """Give each message its cursor: only after the last of a batch may a caller go on behind it; none is a bookmark."""
    held = b""
    for body in bodies:
        if held:
            yield held + wire.WatchPointsResponse(cursor=before).SerializeToString()
        held = body
    yield held + wire.WatchPointsResponse(cursor=after).SerializeToString()


def _from_wire_exchange(exchange: str) -> str:
    try:
        return Metric.parse(f"{exchange}:X").exchange
    except InvalidInputError:
        raise InvalidInputError("exchange", f"{exchange!r} is not an exchange", "upper case, as in KRAKEN") from None


def _from_wire_history_query(asked: wire.GetHistoryRequest) -> HistoryQuery:
    if not asked.metric:
        raise InvalidInputError("metric", "is required", "EXCHANGE:PAIR in capitals, as in KRAKEN:BTCUSD")
    times: dict[str, Slot | None] = {"start_time": None, "end_time": None}
    for field in times:
        if asked.HasField(field):  # type: ignore[arg-type]  # the stub wants a literal
            times[field] = convert.from_wire_time(getattr(asked, field), field)
    return HistoryQuery(
        Metric.parse(asked.metric),
        convert.from_wire_measure(asked.measure),
        times["start_time"],
        times["end_time"],
        convert.from_wire_slots(asked.interval, "interval", 1, LONGEST_INTERVAL_SLOTS)
        if asked.HasField("interval")
        else 1,
        convert.from_wire_choice(_AGGREGATIONS, asked.aggregation, "aggregation", wire.Aggregation.Name),
    )


def _from_wire_watch_query(asked: wire.WatchPointsRequest) -> WatchQuery:
    if len(asked.metrics) > MOST_WATCHED:
        raise InvalidInputError("metrics", f"{len(asked.metrics)} names", f"at most {MOST_WATCHED}, or none for all")
    for place, name in enumerate(asked.metrics):
        Metric.parse(name, f"metrics[{place}]")
    measures = [convert.from_wire_measure(number, f"measures[{place}]") for place, number in enumerate(asked.measures)]
    if len(asked.cursor) > _LONGEST_CURSOR or not all("!" <= character <= "~" for character in asked.cursor):
        raise InvalidCursorError("is not one that a stream has sent")
    return WatchQuery(frozenset(asked.metrics), frozenset(measures), Mark(asked.cursor) if asked.cursor else None)


def _from_rank_payload(payload: bytes) -> tuple[Slot, tuple[float, str]]:
    try:
        end, value = _RANK_PAYLOAD.unpack_from(payload)
    except struct.error as error:  # a key shared with another version, which wrote another payload
        raise InvalidPageTokenError("was issued by another version of this service") from error
    return Slot(end), (value, payload[_RANK_PAYLOAD.size :].decode())


def _to_wire_history(history: History) -> bytes:
    head = wire.GetHistoryResponse(
        start_time=to_wire_time(history.window.start),
        interval=to_wire_duration(history.interval_slots),
        missing=[to_wire_range(window) for window in history.missing],
        backfilled=[to_wire_range(window) for window in history.backfilled],
        coverage=history.coverage,
    )
    return head.SerializeToString() + convert.packed_doubles(3, history.values)
