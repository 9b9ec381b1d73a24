"""The dashboard's files, and what browsers are told about everything that the gateway sends."""

from __future__ import annotations

from pathlib import Path

from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent / "web"

SECURITY_HEADERS = {
    # Everything comes from here: no script within a page, nothing from elsewhere, no framing.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def dashboard() -> StaticFiles:
    """Return the dashboard as an application; `/` is its index.html."""
    return StaticFiles(directory=FOLDER, html=True)
