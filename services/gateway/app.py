"""The gateway's application: routes, errors, and the layers that every request passes through."""

from __future__ import annotations

import tickwatch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from services.core.errors import AddressNotFoundError, InvalidInputError, MethodNotAllowedError, TickwatchError
from services.core.telemetry import GatewayMetrics
from services.gateway import original_routes, pages, probes, routes, stream_routes
from services.gateway.answers import AnswerLayer, KeptAnswers
from services.gateway.events import EventStreams
from services.gateway.input_problems import input_error
from services.gateway.layers import BodyLayer, MeasuringLayer, RefusingLayer, SecurityLayer
from services.gateway.limiting import LimitLayer, RateLimit
from services.gateway.refusals import refusal_of
from services.gateway.subscribing import Relays
from services.gateway.upstream import Upstream

_LONGEST_PATH = 200
_NOT_FOUND, _NOT_ALLOWED = 404, 405


def build_app(
    upstream: Upstream,
    relays: Relays,
    streams: EventStreams,
    answers: KeptAnswers,
    metrics: GatewayMetrics,
    *,
    cors_origins: tuple[str, ...] = (),
    limit: RateLimit | None = None,
) -> FastAPI:
    """Return the application over these services."""
    app = FastAPI(
        title="Tickwatch",
        description="The last 24 hours of every market metric, what comes next, and what breaks a rule.",
        version="1",
        docs_url=None,  # its page takes scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # MeasuringLayer counts
        # Of the application itself, routes are looked for once; in routers that it includes, twice.
        routes=[
            route
            for router in (routes.router, stream_routes.router, original_routes.router, probes.router)
            for route in router.routes
        ],
    )
    app.state.upstream, app.state.relays, app.state.streams, app.state.answers = upstream, relays, streams, answers
    app.router.default = pages.dashboard()
    app.add_exception_handler(tickwatch.Error, _refuse)
    app.add_exception_handler(TickwatchError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_input)
    app.add_exception_handler(HTTPException, _refuse_address)
    # From the inside out.
    app.add_middleware(AnswerLayer, answers=answers)
    app.add_middleware(BodyLayer)
    if limit is not None:
        app.add_middleware(LimitLayer, limit=limit, on_refusal=metrics.refused_requests.inc)
    app.add_middleware(RefusingLayer)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Retry-After"],
        )
    app.add_middleware(SecurityLayer)
    app.add_middleware(MeasuringLayer, metrics=metrics)
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    return refusal_of(error).response()


async def _refuse_input(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as registered
    return refusal_of(input_error(list(error.errors()), request.headers.get("content-type", ""))).response()


async def _refuse_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as registered
    path: str = request.url.path
    told: TickwatchError
    if error.status_code == _NOT_FOUND and b"%2f" in request.scope.get("raw_path", b"").lower():
        told = InvalidInputError("path", "has a / in a name", "KRAKEN:BTCUSD for BTC/USD, for one")
    elif error.status_code == _NOT_FOUND:
        told = AddressNotFoundError(path[:_LONGEST_PATH])
    elif error.status_code == _NOT_ALLOWED:
        told = MethodNotAllowedError(request.method, _methods(path, (error.headers or {}).get("Allow", "")))
    else:  # FastAPI's word for whatever json could make nothing of
        told = InvalidInputError("body", "is not JSON in UTF-8", "one JSON object")
    return refusal_of(told).response()


def _methods(path: str, declared: str) -> str:
    """Return how an address may be asked, joined by commas: by HEAD, too, where GET has an end."""
    methods = {method.strip() for method in declared.split(",")}
    if "GET" in methods and not path.endswith("/stream"):
        methods.add("HEAD")
    return ", ".join(sorted(methods))
