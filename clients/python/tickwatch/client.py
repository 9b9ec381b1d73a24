"""The client: arguments in, plain results out, and nothing of gRPC between.

It knows the contract (`tickwatch.v1`), not the implementation. numpy, which takes longer to be imported than all else
together, is imported when somebody reads the first array: lists and rankings have none.
"""

from __future__ import annotations

import datetime as dt
import sys
from array import array
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from tickwatch import channels, watching
from tickwatch.channels import Options
from tickwatch.connection import Connection
from tickwatch.credentials import Credentials
from tickwatch.messages import choice, duration, range_of, texts, time_of, timestamp, word_of, wrong
from tickwatch.results import History, MeasureSummary, Metric, PointBatch, Ranking, Rankings
from tickwatch.v1 import query_pb2 as wire
from tickwatch.v1 import query_pb2_grpc

if TYPE_CHECKING:
    from tickwatch.messages import Time

_PAGE_SIZE = 1000


class Client(Connection):
    """A connection to the query service.

    `target` is `host:port`, or `dns:///name:port` for a name with several addresses, over which calls go round-robin.
    `timeout_seconds` is the deadline of every call, retries included; streams have none. `credentials` are what the
    client shows and whom it believes; without them the connection is in plain text. `options` are gRPC channel
    arguments that replace the client's own.

    Use it as an async context manager, or `close` it. Every method raises `tickwatch.Error`.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout_seconds: float = 5.0,
        credentials: Credentials | None = None,
        options: Options = (),
    ) -> None:
        super().__init__(channels.QUERY, target, timeout_seconds, credentials, options)

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
                measure=choice("measure", measure, wire.Measure),
                start_time=timestamp("start_time", start),
                end_time=timestamp("end_time", end),
                interval=duration("interval", interval),
                aggregation=choice("aggregation", aggregation, wire.Aggregation),
            ),
        )
        return History(
            metric,
            measure,
            time_of(response.start_time),
            response.interval.ToTimedelta(),
            _floats(response.values),
            tuple(map(range_of, response.missing)),
            tuple(map(range_of, response.backfilled)),
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
            raise wrong("limit", f"{limit} is below 1")
        request = wire.RankMetricsRequest(
            measure=choice("measure", measure, wire.Measure),
            statistic=choice("statistic", statistic, wire.Statistic),
            window=duration("window", window),
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
        window_ranked = range_of(first.window)
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
            metrics=texts("metrics", metrics),
            measures=[choice("measures", measure, wire.Measure) for measure in texts("measures", measures)],
            cursor=cursor or "",
        )
        messages = watching.watch(
            lambda request: self._open_stream(self._stub(streaming=True).WatchPoints, request),
            request,
            wanted=lambda message: bookmarks or len(message.values) > 0,
            patience_seconds=self._timeout_seconds,
            on_retry=on_retry,
        )
        async with aclosing(messages) as stream:
            async for message in stream:
                yield _batch(message)

    def _stub(self, *, streaming: bool = False) -> query_pb2_grpc.QueryServiceAsyncStub:
        return self._stub_of(query_pb2_grpc.QueryServiceStub, streaming=streaming)


def _metric(metric: wire.Metric) -> Metric:
    return Metric(
        metric.name,
        metric.exchange,
        metric.pair,
        tuple(
            MeasureSummary(
                word_of(summary.measure, wire.Measure),
                time_of(summary.last_time),
                summary.last_value,
                summary.point_count,
                summary.coverage,
            )
            for summary in metric.measures
        ),
    )


def _floats(values: Iterable[float]) -> array[float]:
    """Copy a message's numbers; where numpy is loaded anyhow, ten times as fast by way of it."""
    if (np := sys.modules.get("numpy")) is not None:
        return array("d", np.asarray(values, np.float64).tobytes())
    return array("d", values)


def _batch(message: wire.WatchPointsResponse) -> PointBatch:
    import numpy as np  # noqa: PLC0415  # see above

    return PointBatch(
        message.cursor,
        time_of(message.slot_time) if message.HasField("slot_time") else None,
        tuple(message.metrics),
        tuple(word_of(measure, wire.Measure) for measure in message.measures),
        np.asarray(message.values, np.float64),
        np.array([quality == wire.QUALITY_BACKFILLED for quality in message.qualities], bool),
    )
