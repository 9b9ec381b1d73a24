"""uvicorn's HTTP, and besides a way for an application to end a connection whose reader takes nothing.

ASGI knows none: to return ends a connection only after everything that was sent has been taken.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ABORT = "tickwatch.abort"


class HttpProtocol(HttpToolsProtocol):
    """A connection."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT: {"abort": self.transport.abort}}


def abort(scope: MutableMapping[str, Any]) -> None:
    """Drop a request's connection, and what its reader has not taken."""
    if extension := (scope.get("extensions") or {}).get(_ABORT):
        extension["abort"]()
