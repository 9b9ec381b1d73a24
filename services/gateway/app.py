"""The gateway's application: routes, errors, and the layers that every request passes through."""

from __future__ import annotations

import tickwatch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import AddressNotFoundError, InvalidInputError, MethodNotAllowedError, TickwatchError
from services.gateway import routes
from services.gateway.pages import SECURITY_HEADERS, dashboard
from services.gateway.refusals import refusal_of
from services.gateway.upstream import Upstream

_LONGEST_PATH = 200
_NOT_FOUND, _NOT_ALLOWED = 404, 405


def build_app(upstream: Upstream) -> FastAPI:
    """Return the application over these services."""
    app = FastAPI(
        title="Tickwatch",
        description="The last 24 hours of every market metric, what comes next, and what breaks a rule.",
        version="1",
        docs_url=None,  # its page takes scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.upstream = upstream
    app.include_router(routes.router)
    app.router.default = dashboard()
    app.add_middleware(RefusingLayer)
    app.add_middleware(SecurityLayer)
    app.add_exception_handler(tickwatch.Error, _refuse)
    app.add_exception_handler(TickwatchError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_input)
    app.add_exception_handler(HTTPException, _refuse_address)
    return app


class RefusingLayer:
    """Answers what nobody expected as INTERNAL, so that a bug is told like every other error and logged once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # whatever it is, it ends here
            response = refusal_of(error).response()
            if started:
                raise
            await response(scope, receive, send)


class SecurityLayer:
    """Adds the headers that restrain browsers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def restrained(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, restrained)


async def _refuse(_request: Request, error: Exception) -> Response:
    return refusal_of(error).response()


async def _refuse_input(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as registered
    first = error.errors()[0]
    place, *steps = first["loc"]
    problem = str(first["msg"]).removeprefix("Value error, ")
    field = ".".join(str(step) for step in steps if isinstance(step, str)) or str(place)
    return refusal_of(InvalidInputError(field, problem[:1].lower() + problem[1:])).response()


async def _refuse_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as registered
    told: TickwatchError
    if error.status_code == _NOT_FOUND:
        told = AddressNotFoundError(request.url.path[:_LONGEST_PATH])
    elif error.status_code == _NOT_ALLOWED:
        told = MethodNotAllowedError(request.method, (error.headers or {}).get("Allow", "GET"))
    else:
        told = InvalidInputError("body", error.detail)
    return refusal_of(told).response()
