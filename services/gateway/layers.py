"""What every request passes through on its way in, and every answer on its way out; see `services.gateway.app`."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import InvalidInputError
from services.core.telemetry import GatewayMetrics
from services.gateway.pages import SECURITY_HEADERS
from services.gateway.refusals import refusal_of

LARGEST_BODY_BYTES = 256 * 1024
"""As much as the services take of a request."""


class BodyLayer:
    """Refuses a body that is too large, before it is in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; raises InvalidInputError for a body too large."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        left = LARGEST_BODY_BYTES - (int(declared) if declared.isdigit() else 0)
        if left < 0:
            raise _too_large()
        left = LARGEST_BODY_BYTES

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _too_large()
            return message

        await self._app(scope, counted, send)


def _too_large() -> InvalidInputError:
    return InvalidInputError("body", "is too large", f"at most {LARGEST_BODY_BYTES} bytes")


class MeasuringLayer:
    """Counts requests and takes their time, by the address as it is declared: what callers make up is not a label."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        began = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            if not route.endswith("/stream"):
                self._metrics.seconds.labels(route).observe(time.perf_counter() - began)


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


class RefusingLayer:
    """Answers whatever error comes from within, a bug as INTERNAL, so that all are told alike and none twice."""

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
        except Exception as error:
            if started:
                raise
            await refusal_of(error).response()(scope, receive, send)
