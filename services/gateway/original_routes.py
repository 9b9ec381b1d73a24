"""The three addresses of the system that Tickwatch grew out of, for programs that still know them.

Their parameters have the old names; what they answer is what the new addresses answer. Other parameters they leave out
of account, as that system did: a program that adds some of its own goes on working.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.core.model import Measure
from services.gateway import routes, schemas
from services.gateway.arguments import METRIC_NAME
from services.gateway.lean_route import LeanRoute

router = APIRouter(prefix="/pricetracker", responses=routes.ERRORS, route_class=LeanRoute)

MetricParameter = Annotated[
    str,
    Query(description="EXCHANGE:PAIR.", pattern=METRIC_NAME, openapi_examples={"bitcoin": {"value": "KRAKEN:BTCUSD"}}),
]
MeasureParameter = Annotated[
    Measure, Query(description="What is measured.", openapi_examples={"price": {"value": "price"}})
]


@router.get("/metrics", response_model=schemas.Metrics)
async def metrics(request: Request) -> Response:
    """List the metrics; as /v1/metrics."""
    return await routes.list_metrics(request)


@router.get("/historicalprices", response_model=schemas.History)
async def historical_prices(request: Request, metric_name: MetricParameter, measure_name: MeasureParameter) -> Response:
    """Return the last 24 hours of one series; as /v1/metrics/{metric}/{measure}/history."""
    return await routes.get_history(request, metric_name, measure_name)


@router.get("/metricsrank", response_model=schemas.Rankings)
async def metrics_rank(request: Request, measure_name: MeasureParameter) -> Response:
    """Rank the metrics by standard deviation; as /v1/rankings/{measure}."""
    return await routes.rank_metrics(request, measure_name)
