"""The addresses under /v1 that answer once: a request becomes one call of the client, its result a body."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tickwatch
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.core.errors import InvalidInputError
from services.gateway import encoding, schemas
from services.gateway.accepting import CSV, prefers_csv
from services.gateway.arguments import (
    WHOLE,
    Delivery,
    Duration,
    EndTime,
    ExchangeName,
    MeasureName,
    MetricName,
    MetricNames,
    MinSeverity,
    RuleNames,
    SilenceId,
    StartTime,
    Time,
)
from services.gateway.known_route import KnownRoute
from services.gateway.upstream import Upstream

ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": schemas.ErrorBody, "description": "It went wrong."}}

router = APIRouter(prefix="/v1", responses=ERRORS, route_class=KnownRoute)

Aggregation = Literal["last", "mean", "min", "max"]
Statistic = Literal["stddev", "coefficient_of_variation", "log_return_stddev"]


def or_csv(example: str) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of an answer that is CSV where that is asked for."""
    return {200: {"content": {CSV: {"schema": {"type": "string"}, "example": example}}}}


def upstream_of(request: Request) -> Upstream:
    """Return the services behind the gateway, asked with the caller's credentials."""
    upstream: Upstream = request.app.state.upstream
    return upstream.asked_with(request.headers.get("authorization", ""))


@router.get("/metrics", response_model=schemas.Metrics)
async def list_metrics(
    request: Request,
    exchange: ExchangeName = None,
) -> Response:
    """List the metrics that have a point in the last 24 hours, by name."""
    listed = [metric async for metric in upstream_of(request).query.list_metrics(exchange)]
    return answer(encoding.metrics_document(listed))


@router.get(
    "/metrics/{metric}/{measure}/history",
    response_model=schemas.History,
    responses=or_csv("time,value\n2026-11-24T12:00:00Z,64203.5\n2026-11-24T12:01:00Z,\n"),
)
async def get_history(
    request: Request,
    metric: MetricName,
    measure: MeasureName,
    start_time: StartTime = None,
    end_time: EndTime = None,
    interval: Annotated[Duration | None, Query(description="The distance of the values; 1m if left out.")] = None,
    aggregation: Annotated[Aggregation | None, Query(description="How an interval becomes a value.")] = None,
) -> Response:
    """Return one series, one value per interval, null (in CSV nothing) where there is no point.

    Without times it is the last 24 hours: 1440 values.
    """
    history = await upstream_of(request).query.get_history(
        metric, measure, start=start_time, end=end_time, interval=interval, aggregation=aggregation
    )
    if wants_csv(request):
        return Response(encoding.history_csv(history), media_type=CSV)
    return answer(encoding.history_document(history))


@router.get(
    "/rankings/{measure}",
    response_model=schemas.Rankings,
    responses=or_csv("rank,metric,value,point_count,coverage\n1,KRAKEN:BTCUSD,832.07,1440,1.0\n"),
)
async def rank_metrics(
    request: Request,
    measure: MeasureName,
    statistic: Annotated[Statistic, Query(description="By what is ranked.")] = "stddev",
    window: Annotated[Duration | None, Query(description="How far back, from 2m to 24h; 24h if left out.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=100_000, description="How many at most."), WHOLE] = None,
) -> Response:
    """Rank the metrics by how much one measure of theirs moved, the most restless first."""
    ranked = await upstream_of(request).query.rank_metrics(measure, statistic=statistic, window=window, limit=limit)
    if wants_csv(request):
        return Response(encoding.rankings_csv(ranked), media_type=CSV)
    return answer(encoding.rankings_document(ranked))


@router.get("/breaches", response_model=schemas.Breaches)
async def list_breaches(
    request: Request,
    rules: RuleNames = (),
    metrics: MetricNames = (),
    min_severity: MinSeverity = None,
    delivery: Delivery = None,
    start_time: Annotated[Time | None, Query(description="The first minute.")] = None,
    end_time: Annotated[Time | None, Query(description="The minute after the last.")] = None,
    page_size: Annotated[
        int | None,
        Query(ge=1, le=2**31 - 1, description="How many at most; 100 if left out, never more than 1000."),
        WHOLE,
    ] = None,
    page_token: Annotated[str, Query(max_length=1000, description="The previous page's next_page_token.")] = "",
) -> Response:
    """List the breaches that are kept, and what became of them, the newest first."""
    page = await upstream_of(request).alerts.list_breaches_page(
        rules,
        metrics,
        min_severity=min_severity,
        delivery=delivery,
        start=start_time,
        end=end_time,
        page_size=page_size,
        page_token=page_token,
    )
    return answer(encoding.breaches_document(page))


@router.get("/rules", response_model=schemas.Rules)
async def list_rules(request: Request) -> Response:
    """List the rules in force, how each fares, and the silences."""
    return answer(encoding.rules_document(await upstream_of(request).alerts.list_rules()))


@router.post("/rules:test", response_model=schemas.RuleTest)
async def test_rule(request: Request, asked: schemas.RuleTestRequest) -> Response:
    """Run a rule over stored history and return what it would have fired; nothing changes and nobody is notified."""
    subject = asked.rule_name if asked.rule is None else _rule(asked.rule)
    assert subject is not None  # noqa: S101  # one of the two was given, as checked
    tested = await upstream_of(request).alerts.test_rule(
        subject, start=asked.start_time, end=asked.end_time, max_events=asked.max_events
    )
    return answer(encoding.rule_test_document(tested))


@router.post("/silences", response_model=schemas.Silence)
async def create_silence(request: Request, asked: schemas.SilenceRequest) -> Response:
    """Keep breaches from being notified for a while; streams and the log still have them, marked."""
    silence = await upstream_of(request).alerts.create_silence(
        asked.duration, rules=asked.rules, selector=_selector(asked.selector), comment=asked.comment
    )
    request.app.state.answers.forget()  # among them the list of silences
    return answer(encoding.silence_document(silence))


@router.delete("/silences/{silence}", response_model=schemas.Nothing)
async def expire_silence(
    request: Request,
    silence: SilenceId,
) -> Response:
    """End a silence at once."""
    await upstream_of(request).alerts.expire_silence(silence)
    request.app.state.answers.forget()
    return answer({})


@router.get("/metrics/{metric}/{measure}/explanation", response_model=schemas.Explanation)
async def explain_series(
    request: Request,
    metric: MetricName,
    measure: MeasureName,
    rule: Annotated[
        str,
        Query(description="A rule in force.", max_length=64, openapi_examples={"r": {"value": "three-times-the-hour"}}),
    ],
    time: Annotated[Time | None, Query(description="The minute; the last evaluated if left out.")] = None,
) -> Response:
    """Say why a rule did or did not fire on a series at a minute."""
    explained = await upstream_of(request).alerts.explain(rule, metric, measure, time)
    return answer(encoding.explanation_document(explained))


def answer(document: dict[str, Any]) -> Response:
    """Return a document as a response, which only the layer that keeps answers lets others keep."""
    return Response(encoding.to_json(document), headers={"Cache-Control": "no-store"}, media_type="application/json")


def wants_csv(request: Request) -> bool:
    """Whether the caller would rather have CSV."""
    return prefers_csv(", ".join(request.headers.getlist("accept")))


def _rule(asked: schemas.Rule) -> tickwatch.Rule:
    conditions: list[tickwatch.Ratio | tickwatch.Threshold | tickwatch.Missing | tickwatch.Frozen] = []
    if asked.ratio:
        conditions.append(tickwatch.Ratio(**asked.ratio.model_dump()))
    if asked.threshold:
        conditions.append(tickwatch.Threshold(**asked.threshold.model_dump()))
    if asked.missing:
        conditions.append(tickwatch.Missing(**asked.missing.model_dump()))
    if asked.frozen:
        conditions.append(tickwatch.Frozen(**asked.frozen.model_dump()))
    if len(conditions) != 1:
        raise InvalidInputError("rule", f"has {len(conditions)} conditions", "one of ratio, threshold, missing, frozen")
    return tickwatch.Rule(
        asked.name,
        conditions[0],
        _selector(asked.selector),
        asked.severity,
        asked.labels,
        asked.message,
        asked.for_points,
    )


def _selector(asked: schemas.Selector) -> tickwatch.Selector:
    return tickwatch.Selector(tuple(asked.exchanges), tuple(asked.metrics), tuple(asked.measures))
