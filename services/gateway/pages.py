"""The dashboard's files, and what browsers are told about everything that the gateway sends."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "web"

CHART_FILES = {"vendor/uPlot.iife.min.js": "uplot.iife.min.js", "vendor/uPlot.min.css": "uplot.min.css"}
"""uPlot's files by their address, and what the wheel that carries them calls them (ADR 008)."""

SECURITY_HEADERS = {
    # Everything comes from here: no script within a page, nothing from elsewhere, no framing.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Dashboard(StaticFiles):
    """The folder's files and the chart library's, which browsers ask about each time: an upgrade shows at once."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return where a file lies, and what is known of it."""
        if path in CHART_FILES:
            found = chart_folder() / CHART_FILES[path]
            return str(found), found.stat()
        return super().lookup_path(path)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file; what is not there has no method that it could be asked by instead."""
        if scope["method"] not in ("GET", "HEAD"):
            await super().get_response(path, {**scope, "method": "HEAD"})
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file, or that it has not changed."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def chart_folder() -> Path:
    """Return where the chart library was installed; nothing of its package is imported."""
    spec = find_spec("youplot")
    assert spec is not None  # noqa: S101  # a dependency
    assert spec.origin is not None  # noqa: S101  # a package with a file
    return Path(spec.origin).parent / "vendor"


def dashboard() -> StaticFiles:
    """Return the dashboard as an application; `/` is its index.html."""
    return Dashboard(directory=FOLDER, html=True)
