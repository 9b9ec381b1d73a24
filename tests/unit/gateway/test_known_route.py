"""A route that knows its parameters refuses, by name, every other one."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Header, Query, Request
from starlette.responses import Response

from services.core.errors import InvalidInputError
from services.gateway.known_route import KnownRoute


async def ask(address: str) -> int:
    """Return the status of an answer by a lean route and by one that FastAPI reads; raises what was raised there."""
    router = APIRouter(route_class=KnownRoute)

    @router.get("/lean")
    async def lean(limit: int | None = None, metrics: Annotated[tuple[str, ...], Query()] = ()) -> Response:
        return Response(f"{limit} {metrics}")

    @router.get("/thorough")
    async def thorough(
        last_event_id: Annotated[str | None, Header()] = None,
        limit: int | None = None,
        metrics: Annotated[tuple[str, ...], Query()] = (),
    ) -> Response:
        return Response(f"{last_event_id} {limit} {metrics}")

    @router.get("/none")
    async def none(request: Request) -> Response:
        return Response(request.url.path)

    app = FastAPI()
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        return (await http.get(address)).status_code


@pytest.mark.parametrize("path", ["/lean", "/thorough"])
async def test_what_it_has_is_taken(path: str) -> None:
    """All of its parameters, those that take several values several times."""
    assert await ask(f"{path}?limit=1&metrics=a&metrics=b") == 200


@pytest.mark.parametrize(
    ("address", "field", "problem", "hint"),
    [
        ("/lean?limmit=1", "limmit", "is no parameter of this address", "did you mean 'limit'?"),
        ("/thorough?since=1h", "since", "is no parameter of this address", "known here: limit, metrics"),
        ("/none?limit=1", "limit", "is no parameter of this address", "this address has none"),
        ("/lean?limit=1&limit=2", "limit", "is given more than once", "one value"),
        ("/thorough?limit=1&limit=1", "limit", "is given more than once", "one value"),
        ("/lean?=1", "query", "is no parameter of this address", "known here: limit, metrics"),
        (f"/lean?{'x' * 500}=1", "x" * 100, "is no parameter of this address", "known here: limit, metrics"),
    ],
)
async def test_what_it_does_not_have_is_refused(address: str, field: str, problem: str, hint: str) -> None:
    """By its name, with what would be right."""
    with pytest.raises(InvalidInputError) as refused:
        await ask(address)

    assert (refused.value.field, refused.value.problem, refused.value.hint) == (field, problem, hint)
