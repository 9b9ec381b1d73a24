"""What tells whoever runs the gateway that it is well."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.core.errors import NotReadyError

router = APIRouter(include_in_schema=False)

_METHODS = ["GET", "HEAD"]


@router.api_route("/healthz", methods=_METHODS)
async def healthz() -> Response:
    """Answer as long as the process can answer at all."""
    return _ok()


@router.api_route("/readyz", methods=_METHODS)
async def readyz(request: Request) -> Response:
    """Answer 200 until the gateway stops.

    A service behind it that is away does not count: the page would be away too, which says so and heals by itself.
    """
    if request.app.state.streams.stopping:
        raise NotReadyError("the gateway is stopping")
    return _ok()


def _ok() -> Response:
    return Response("ok\n", headers={"Cache-Control": "no-store"}, media_type="text/plain")
