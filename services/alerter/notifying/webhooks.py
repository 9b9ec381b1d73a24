"""What a receiver of breaches gets over HTTP: which events, in what form, signed how. The format of docs/webhooks.md.

Pure: it knows no HTTP library, no store and no clock.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from services.alerter.streams.filtering import changes_episode
from services.core.breach_documents import event_document
from services.core.breaches import Event, Severity

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0

_LEAST_SECRET_PART = 8
"""Shorter parts of an address are words, not secrets; leaving them out would mangle what a receiver says."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody who gets events by webhook. Neither address nor secret shows in its representation."""

    name: str
    url: str = field(repr=False)
    secret: bytes = field(repr=False)
    min_severity: Severity = Severity.INFO
    rules: tuple[str, ...] = ()
    """By name or by glob; empty: all."""
    episodes_only: bool = True
    """Only what changes an episode, not every breach of it."""
    timeout_seconds: float = 10.0
    retry_seconds: float = 3600.0
    """For how long it is tried again before an event is given up."""

    def wants(self, event: Event) -> bool:
        """Whether an event is sent to it; what is silenced is sent to nobody."""
        return (
            not event.silenced
            and event.severity >= self.min_severity
            and (not self.rules or any(fnmatchcase(event.rule, glob) for glob in self.rules))
            and (not self.episodes_only or changes_episode(event))
        )

    def request(self, event: Event, now: float) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body that tell it of an event; `now` in seconds since 1970."""
        body = json.dumps(
            {**event_document(event), "receiver": self.name}, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()
        timestamp = int(now)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": event.id,
            "X-Tickwatch-Timestamp": str(timestamp),
            "X-Tickwatch-Signature": f"v1={signature(self.secret, timestamp, body)}",
        }
        return headers, body

    def unsaid(self, words: str) -> str:
        """Return its words without what it may have repeated of its address and of the secret."""
        return unsaid(words, self.url, self.secret.decode(errors="replace"))


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return the HMAC-SHA256 (RFC 2104) over the timestamp, a full stop and the body, in hexadecimal."""
    return hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


class Outcome(enum.Enum):
    """How a request ended."""

    DELIVERED = enum.auto()
    LATER = enum.auto()
    """No answer, or one that says that the same request may succeed later."""
    REFUSED = enum.auto()
    """The same request will be refused again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended, in the receiver's own words unless it succeeded."""

    outcome: Outcome
    words: str = ""
    retry_after_seconds: float | None = None
    """When the receiver wants to be asked again, where it said so."""


class Send(Protocol):
    """Sends one request and waits for its end, at most so many seconds; never raises but when cancelled."""

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_seconds: float
    ) -> Answer:
        """Return how it ended."""


def pause_seconds(failures: int, answer: Answer, longest_wait: float) -> float:
    """Return how long to wait after so many failures in a row, from 1.

    Twice as long each time, up to five minutes, of which chance takes up to half away, so that many senders do not come
    back at once; longer where the receiver has asked for it, but at most `longest_wait` for that.
    """
    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 30))
    asked = min(answer.retry_after_seconds or 0.0, longest_wait)
    return max(pause * random.uniform(0.5, 1), asked)  # noqa: S311  jitter needs no secrecy


def unsaid(words: str, url: str, secret: str = "") -> str:
    """Return words without the secret and without whatever of an address may be one."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    found = {url, target, parts.path, parts.query, secret}
    found |= {*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))}
    for part in sorted(found, key=len, reverse=True):
        if len(part) >= _LEAST_SECRET_PART:
            words = words.replace(part, "***")
    return words
