"""The addresses that do not end: points and breaches as server-sent events, resumed by the id of the last one had."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from services.core.model import Measure
from services.gateway.arguments import (
    Cursor,
    Delivery,
    LastEventId,
    MetricNames,
    MinSeverity,
    PlainMetricNames,
    RuleNames,
)
from services.gateway.events import EventStream, EventStreams
from services.gateway.known_route import KnownRoute
from services.gateway.routes import ERRORS, upstream_of
from services.gateway.sources import BreachSource, PointSource, Source
from services.gateway.subscribing import Relays

router = APIRouter(prefix="/v1", responses=ERRORS, route_class=KnownRoute)


def events(example: str) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of a stream."""
    return {200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": example}}}}


@router.get(
    "/points/stream",
    response_class=EventStream,
    status_code=200,
    responses=events(
        "event: points\nid: sqlite.5c0e.81\n"
        'data: {"slot_time":"2026-11-24T12:00:00Z","metrics":["KRAKEN:BTCUSD"],"measures":["price"],'
        '"values":[64203.5],"backfilled":[false]}\n\n'
    ),
)
async def watch_points(
    request: Request,
    metrics: PlainMetricNames = (),
    measures: Annotated[tuple[Measure, ...], Query(description="Only these measures.", max_length=5)] = (),
    cursor: Cursor = None,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Stream new points as they are written: `points`, a slot as columns, and `bookmark` where nothing comes.

    Delivery is at least once: a point of the same series and slot replaces the earlier one.
    """
    source = PointSource(metrics, tuple(map(str, measures)), request.headers.get("authorization", ""))
    return await _stream(request, source, cursor, last_event_id)


@router.get(
    "/breaches/stream",
    response_class=EventStream,
    status_code=200,
    responses=events('event: bookmark\nid: AZDmYv0zX3yq\ndata: {"evaluated_time":"2026-11-24T12:01:00Z"}\n\n'),
)
async def watch_breaches(
    request: Request,
    rules: RuleNames = (),
    metrics: MetricNames = (),
    min_severity: MinSeverity = None,
    delivery: Delivery = None,
    include_late: Annotated[bool, Query(description="Also what points that came late changed.")] = False,  # noqa: FBT002  # FastAPI passes it by name
    cursor: Cursor = None,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Stream breaches as they are found: `snapshot` (what is open), then `breach`, `resolved`, `stale`, `withdrawn`.

    A `bookmark` at least every 15 s says how far rules have been evaluated, so that silence means that all is well.
    """
    authorization = request.headers.get("authorization", "")
    source = BreachSource(rules, metrics, min_severity, delivery, include_late, authorization)
    return await _stream(request, source, cursor, last_event_id)


async def _stream(request: Request, source: Source, cursor: str | None, last_event_id: str | None) -> EventStream:
    streams: EventStreams = request.app.state.streams
    relays: Relays = request.app.state.relays
    streams.require_room()
    upstream_of(request)  # refuses what cannot be a token
    # Whoever gives a cursor in the address wants to know if it is no good; a browser only repeats what it had last.
    subscription = await relays.subscribe(source, last_event_id or cursor, insisting=not last_event_id)
    return EventStream(subscription, streams)
