"""What servers say over HTTP, read alike by whoever calls them. It knows no HTTP library."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

_EXCERPT_LENGTH = 160


def status_words(status: int, reason: str, body: str) -> str:
    """Return an answer's status and the beginning of its text, of a page of HTML its title, on one line."""
    title = re.search(r"<title>(.*?)</title>", body, re.DOTALL)
    text = excerpt(title.group(1) if title else body)
    return f"HTTP {status} {reason}".rstrip() + (f": {text}" if text else "")


def excerpt(text: str) -> str:
    """Return the beginning of a text on one line, without characters that a terminal obeys."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= _EXCERPT_LENGTH else text[:_EXCERPT_LENGTH] + "…"


def retry_after_seconds(header: str, now: float) -> float | None:
    """Read a Retry-After of either form (RFC 9110, 10.2.3); None for none or one that cannot be read.

    `now` is in seconds since 1970.
    """
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header):
        return float(header)
    moment = moment_of(header)
    return None if moment is None else max(0.0, moment - now)


def moment_of(header: str) -> float | None:
    """Read an HTTP date (RFC 9110, 5.6.7) as seconds since 1970; None for none or one that cannot be read."""
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
