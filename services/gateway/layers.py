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
    """Takes a body before anybody reads it, and refuses one that is too large before it is in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; raises InvalidInputError for a body too large."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if int(declared if declared.isdigit() else b"0") > LARGEST_BODY_BYTES:
            raise _too_large()
        if declared == b"0" and b"transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        taken = [await _body(receive)]

        async def taken_first() -> Message:
            return taken.pop() if taken else await receive()

        await self._app(scope, taken_first, send)


async def _body(receive: Receive) -> Message:
    """Return a whole body as one message, or that its sender has gone away."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY_BYTES:
            raise _too_large()
        if message["type"] != "http.request":
            return message
        if not message.get("more_body"):
            return {"type": "http.request", "body": bytes(body), "more_body": False}


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
