"""The client: arguments in, plain results out, and nothing of gRPC between.

It knows the contract (`tickwatch.v1`), not the implementation.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tickwatch import watching
from tickwatch.channels import Options, open_channel
from tickwatch.errors import InvalidInputError, from_rpc_error
from tickwatch.results import History, MeasureSummary, Metric, PointBatch, Ranking, Rankings, TimeRange
from tickwatch.v1 import query_pb2 as wire
from tickwatch.v1 import query_pb2_grpc

Time = dt.datetime | np.datetime64

_PAGE_SIZE = 1000

_TResponse_co = TypeVar("_TResponse_co", covariant=True)
_TRequest_contra = TypeVar("_TRequest_contra", contravariant=True)


class _Unary(Protocol[_TRequest_contra, _TResponse_co]):
    def __call__(self, request: _TRequest_contra, *, timeout: float) -> Awaitable[_TResponse_co]: ...


class Client:
    """A connection to the query service.

    `target` is `host:port`, or `dns:///name:port` for a name with several addresses, over which calls go round-robin.
    `timeout_seconds` is the deadline of every call, retries included; streams have none. Without `credentials` the
    connection is in plain text. `options` are gRPC channel arguments that replace the client's own.

    Use it as an async context manager, or `close` it. Every method raises `tickwatch.Error`.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout_seconds: float = 5.0,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
    ) -> None:
        self._target = target
        self._timeout_seconds = timeout_seconds
        self._credentials = credentials
        self._options = tuple(options)
        self._channels: dict[bool, grpc.aio.Channel] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and end open watches; closing twice is fine."""
        self._closed = True
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()

    async def list_metrics(self, exchange: str | None = None) -> AsyncGenerator[Metric, None]:
        """Yield the metrics that have a point in the last 24 hours, by name; of one `exchange`, such as "KRAKEN"."""
        request = wire.ListMetricsRequest(page_size=_PAGE_SIZE, exchange=exchange)
        while True:
            page = await self._call(self._stub().ListMetrics, request)
            for metric in page.metrics:
                yield _metric(metric)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_history(
        self,
        metric: str,
        measure: str,
        *,
        start: Time | None = None,
        end: Time | None = None,
        interval: dt.timedelta | None = None,
        aggregation: str | None = None,
    ) -> History:
        """Return one series over [start, end), dense, NaN where there is no point.

        `measure` is price, volume, change_absolute, change_percentage or volume_1m. Without times it is the last 24
        hours: 1440 values. Times are whole minutes, aware or numpy's (UTC). `interval` is a multiple of a minute, one
        where it is left out; `aggregation` (last, mean, min or max) makes one value of its points.
        """
        response = await self._call(
            self._stub().GetHistory,
            wire.GetHistoryRequest(
                metric=metric,
                measure=_choice("measure", measure, wire.Measure),
                start_time=_timestamp("start_time", start),
                end_time=_timestamp("end_time", end),
                interval=_duration(interval),
                aggregation=_choice("aggregation", aggregation, wire.Aggregation),
            ),
        )
        values = np.asarray(response.values, np.float64)
        values.flags.writeable = False
        return History(
            metric,
            measure,
            _time(response.start_time),
            response.interval.ToTimedelta(),
            values,
            tuple(map(_range, response.missing)),
            tuple(map(_range, response.backfilled)),
            response.coverage,
        )

    async def rank_metrics(
        self,
        measure: str,
        *,
        statistic: str = "stddev",
        window: dt.timedelta | None = None,
        limit: int | None = None,
    ) -> Rankings:
        """Return the metrics by descending dispersion of a measure over the last 24 hours, or the last `window`.

        `statistic` is stddev, coefficient_of_variation or log_return_stddev. `limit` is how many at most, else all.
        """
        if limit is not None and limit < 1:
            raise InvalidInputError("INVALID_ARGUMENT", "INVALID_FIELD", f"limit: {limit} is below 1", field="limit")
        request = wire.RankMetricsRequest(
            measure=_choice("measure", measure, wire.Measure),
            statistic=_choice("statistic", statistic, wire.Statistic),
            window=_duration(window),
        )
        rankings: list[Ranking] = []
        first: wire.RankMetricsResponse | None = None
        while True:
            request.page_size = _PAGE_SIZE if limit is None else min(_PAGE_SIZE, limit - len(rankings))
            page = await self._call(self._stub().RankMetrics, request)
            first = first or page
            rankings += [Ranking(r.metric, r.rank, r.value, r.point_count, r.coverage) for r in page.rankings]
            if not page.next_page_token or len(rankings) == limit:
                break
            request.page_token = page.next_page_token
        window_ranked = _range(first.window)
        return Rankings(measure, statistic, window_ranked, tuple(rankings), first.ranked_count, tuple(first.unranked))

    async def watch_points(
        self,
        metrics: Iterable[str] = (),
        measures: Iterable[str] = (),
        *,
        cursor: str | None = None,
        bookmarks: bool = False,
        on_retry: watching.OnRetry | None = None,
    ) -> AsyncGenerator[PointBatch, None]:
        """Yield new points as they are written, for ever: a broken stream is opened again where it stopped.

        Everything where no metrics or measures are given. `cursor`, of a batch had earlier, resumes after it. With
        `bookmarks`, batches without points come too, at least every 15 s, whose cursors are newer than the last
        points'. `on_retry(error, pause_seconds)` is told of every break. Delivery is at least once.

        Raises CursorExpiredError when the service cannot resume without a gap, and UnavailableError when nobody has
        answered within the client's timeout since the beginning. To end a watch early without leaving its call to the
        garbage collector, use it within `contextlib.aclosing`.
        """
        request = wire.WatchPointsRequest(
            metrics=metrics,
            measures=[_choice("measures", measure, wire.Measure) for measure in measures],
            cursor=cursor or "",
        )
        messages = watching.watch(
            lambda request: self._stub(streaming=True).WatchPoints(request),
            request,
            bookmarks=bookmarks,
            patience_seconds=self._timeout_seconds,
            on_retry=on_retry,
        )
        async with aclosing(messages) as stream:
            async for message in stream:
                yield _batch(message)

    def _stub(self, *, streaming: bool = False) -> query_pb2_grpc.QueryServiceAsyncStub:
        """Return a stub on a channel for streams or for the rest; both are opened when they are first needed."""
        if self._closed:
            raise RuntimeError("this tickwatch.Client is closed")
        if streaming not in self._channels:
            self._channels[streaming] = open_channel(
                self._target, self._credentials, self._options, streaming=streaming
            )
        return query_pb2_grpc.QueryServiceStub(self._channels[streaming])

    async def _call(self, method: _Unary[_TRequest_contra, _TResponse_co], request: _TRequest_contra) -> _TResponse_co:
        try:
            return await method(request, timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


def _choice(field: str, word: str | None, kind: Any) -> Any:  # noqa: ANN401 - protobuf's enums have no common type
    """Return the number of an enum's value by its own word, such as "price" for MEASURE_PRICE."""
    if word is None:
        return 0
    prefix = f"{kind.DESCRIPTOR.name.upper()}_"
    names = {name.removeprefix(prefix).lower(): number for name, number in kind.items() if number}
    if word not in names:
        hint = f"one of {', '.join(names)}"
        raise InvalidInputError(
            "INVALID_ARGUMENT", "INVALID_FIELD", f"{field}: {word!r} is not known ({hint})", field=field, hint=hint
        )
    return names[word]


def _word(number: int, kind: Any) -> str:  # noqa: ANN401 - as above
    """Return an enum's word; a number from a newer service stands for itself."""
    if number not in kind.values():
        return str(number)
    name: str = kind.Name(number)
    return name.removeprefix(f"{kind.DESCRIPTOR.name.upper()}_").lower()


def _timestamp(field: str, time: Time | None) -> Timestamp | None:
    if time is None:
        return None
    if isinstance(time, np.datetime64):
        stamp = Timestamp()
        stamp.FromNanoseconds(int(time.astype("datetime64[us]").astype(np.int64)) * 1000)
        return stamp
    if time.tzinfo is None:
        hint = "datetime.datetime(..., tzinfo=datetime.UTC)"
        raise InvalidInputError(
            "INVALID_ARGUMENT", "INVALID_FIELD", f"{field}: {time} has no time zone ({hint})", field=field, hint=hint
        )
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(dt.UTC))
    return stamp


def _duration(span: dt.timedelta | None) -> Duration | None:
    if span is None:
        return None
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def _time(stamp: Timestamp) -> dt.datetime:
    return stamp.ToDatetime(dt.UTC)


def _range(span: wire.TimeRange) -> TimeRange:
    return TimeRange(_time(span.start_time), _time(span.end_time))


def _metric(metric: wire.Metric) -> Metric:
    return Metric(
        metric.name,
        metric.exchange,
        metric.pair,
        tuple(
            MeasureSummary(
                _word(summary.measure, wire.Measure),
                _time(summary.last_time),
                summary.last_value,
                summary.point_count,
                summary.coverage,
            )
            for summary in metric.measures
        ),
    )


def _batch(message: wire.WatchPointsResponse) -> PointBatch:
    return PointBatch(
        message.cursor,
        _time(message.slot_time) if message.HasField("slot_time") else None,
        tuple(message.metrics),
        tuple(_word(measure, wire.Measure) for measure in message.measures),
        np.asarray(message.values, np.float64),
        np.array([quality == wire.QUALITY_BACKFILLED for quality in message.qualities], bool),
    )
