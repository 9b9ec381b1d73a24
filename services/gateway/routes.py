"""The addresses under /v1: each turns a request into one call of the client, and its result into a body."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.gateway import encoding
from services.gateway.arguments import Duration, EndTime, MeasureName, MetricName, StartTime
from services.gateway.upstream import Upstream

router = APIRouter(prefix="/v1")

CSV = "text/csv"

Aggregation = Literal["last", "mean", "min", "max"]
Statistic = Literal["stddev", "coefficient_of_variation", "log_return_stddev"]


def upstream_of(request: Request) -> Upstream:
    """Return the services behind the gateway."""
    upstream: Upstream = request.app.state.upstream
    return upstream


@router.get("/metrics")
async def list_metrics(request: Request, exchange: str | None = None) -> Response:
    """List the metrics that have a point in the last 24 hours, by name."""
    listed = [metric async for metric in upstream_of(request).query.list_metrics(exchange)]
    return answer(encoding.metrics_document(listed))


@router.get("/metrics/{metric}/{measure}/history")
async def get_history(
    request: Request,
    metric: MetricName,
    measure: MeasureName,
    start_time: StartTime = None,
    end_time: EndTime = None,
    interval: Annotated[Duration | None, Query(description="The distance of the values.")] = None,
    aggregation: Annotated[Aggregation | None, Query(description="How an interval becomes a value.")] = None,
) -> Response:
    """Return one series, one value per interval and null where there is no point."""
    history = await upstream_of(request).query.get_history(
        metric, measure, start=start_time, end=end_time, interval=interval, aggregation=aggregation
    )
    if wants_csv(request):
        return Response(encoding.history_csv(history), media_type=CSV)
    return answer(encoding.history_document(history))


@router.get("/rankings/{measure}")
async def rank_metrics(
    request: Request,
    measure: MeasureName,
    statistic: Annotated[Statistic, Query(description="By what is ranked.")] = "stddev",
    window: Annotated[Duration | None, Query(description="How far back, from 2m to 24h.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=100_000, description="How many at most.")] = None,
) -> Response:
    """Rank the metrics by how much one measure of theirs moved, the most restless first."""
    ranked = await upstream_of(request).query.rank_metrics(measure, statistic=statistic, window=window, limit=limit)
    if wants_csv(request):
        return Response(encoding.rankings_csv(ranked), media_type=CSV)
    return answer(encoding.rankings_document(ranked))


def answer(document: dict[str, Any]) -> Response:
    """Return a document as a response."""
    return Response(encoding.to_json(document), media_type="application/json")


def wants_csv(request: Request) -> bool:
    """Whether the caller would rather have CSV than JSON."""
    return CSV in request.headers.get("accept", "")
