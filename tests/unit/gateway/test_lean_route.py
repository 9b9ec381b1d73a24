"""A route that reads its parameters cheaply does to the word what FastAPI's own does."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from services.gateway import routes
from services.gateway.arguments import Duration, MetricNames
from services.gateway.lean_route import LeanRoute


def application(route_class: type[APIRoute]) -> FastAPI:
    """Return an application with one route that tells what it has read."""
    router = APIRouter(route_class=route_class)

    @router.get("/{place}/told")
    async def told(  # noqa: PLR0917  # FastAPI passes them by name
        request: Request,
        place: Annotated[int, Path(ge=1)],
        word: Annotated[Literal["a", "b"], Query()],
        metrics: MetricNames = (),
        window: Annotated[Duration | None, Query()] = None,
        limit: Annotated[int | None, Query(ge=1, alias="most")] = None,
    ) -> Response:
        read: list[Any] = [request.url.path, place, word, metrics, str(window), limit]
        return Response(json.dumps(read), media_type="application/json")

    app = FastAPI()
    app.include_router(router)
    return app


async def ask(route_class: type[APIRoute], address: str) -> tuple[int, Any]:
    """Return the status and the body of an answer."""
    transport = httpx.ASGITransport(application(route_class))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.get(address)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/1/told?word=a", 200),
        ("/7/told?word=a&word=b", 200),
        ("/1/told?word=a&metrics=SIM:*&metrics=KRAKEN:BTCUSD", 200),
        ("/1/told?word=a&window=5m&most=3&unknown=1", 200),
        ("/1/told?word=a&limit=0", 200),
        ("/1/told", 422),
        ("/0/told?word=a", 422),
        ("/one/told?word=c", 422),
        ("/1/told?word=", 422),
        ("/1/told?word=a&metrics=SIM:*&metrics=no%20name", 422),
        ("/1/told?word=a&window=5&most=none", 422),
        ("/1/told?word=a&most=0", 422),
    ],
)
async def test_it_reads_and_refuses_as_fastapi_does(address: str, status: int):
    """Values, defaults and refusals are the same."""
    lean, own = await ask(LeanRoute, address), await ask(APIRoute, address)

    assert lean == own
    assert lean[0] == status


def test_histories_are_asked_for_by_it():
    """The address that is to be quick is of this kind."""
    kinds = {route.path: type(route) for route in routes.router.routes if isinstance(route, APIRoute)}

    assert issubclass(kinds["/v1/metrics/{metric}/{measure}/history"], LeanRoute)
