"""Answers kept for a moment: prepared once, compressed once, and not sent at all to who has them.

The same request gets the same answer's bytes for a second, or until a stream brings news. That second is no longer than
the query service takes to see what is new in the store, and it is what makes a page that a thousand people watch cost
one call a second. An answer is kept for who asked: the credentials are part of what is asked.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.accepting import takes_gzip
from services.gateway.limiting import PROBES

KEPT_SECONDS = 1.0

_MOST_BYTES = 64 * 1024 * 1024
_LEAST_COMPRESSED_BYTES = 1000
_LARGE_BYTES = 256 * 1024
"""Bodies from this size on are compressed in a thread: they would hold up everybody else."""

_LEVEL = 1
"""Of gzip's: a day of values becomes 7 % larger than by the usual 6, in a quarter of the time."""

_COMPRESSIBLE = ("text/", "application/json", "application/javascript", "image/svg+xml", "application/manifest+json")
_CONDITIONS = (b"if-none-match", b"if-modified-since", b"range", b"if-range", b"accept-encoding")
_OWN = (b"etag", b"last-modified", b"content-length", b"accept-ranges", b"cache-control", b"vary")
_OK = 200

Key = tuple[str, bytes, bytes, bytes]


class Answer:
    """A body and how it is sent."""

    def __init__(self, headers: list[tuple[bytes, bytes]], body: bytes, route: object, *, private: bool) -> None:
        # Of hashlib's it is the fastest but for the broken one, where the processor has instructions for it.
        self.etag = f'W/"{hashlib.sha256(body).hexdigest()[:24]}"'.encode()
        self.body = body
        self.route = route
        self.kept_until = 0.0
        kind = dict(headers).get(b"content-type", b"").decode("latin-1")
        self.compressible = len(body) >= _LEAST_COMPRESSED_BYTES and kind.startswith(_COMPRESSIBLE)
        self.compressed: bytes | None = None
        self.headers = [
            *((name, value) for name, value in headers if name not in _OWN),
            (b"etag", self.etag),
            (b"cache-control", b"private, no-cache" if private else b"no-cache"),
            (b"vary", b"Accept, Accept-Encoding, Authorization"),
        ]

    @property
    def size_bytes(self) -> int:
        """What it takes at most."""
        # The compressed body comes later, and is never larger; a key and the headers come to less than the rest.
        return 2 * len(self.body) + 4000

    async def compress(self) -> bytes:
        """Return the body in gzip, made when it is first wanted."""
        if self.compressed is None:
            if len(self.body) < _LARGE_BYTES:
                self.compressed = gzip.compress(self.body, _LEVEL, mtime=0)
            else:
                self.compressed = await asyncio.to_thread(gzip.compress, self.body, _LEVEL, mtime=0)
        return self.compressed


class KeptAnswers:
    """The answers of the last moment, by what was asked; the oldest go where they are too many bytes."""

    def __init__(self, kept_seconds: float = KEPT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._bytes = 0
        self.generation = 0
        """Ends with news: what was asked for in one generation is not kept for the next."""

    def forget(self) -> None:
        """Have everything asked anew: there is news."""
        self._answers.clear()
        self._bytes = 0
        self.generation += 1

    def find(self, key: Key) -> Answer | None:
        """Return what was answered a moment ago."""
        answer = self._answers.get(key)
        return answer if answer is not None and answer.kept_until > self._clock() else None

    def keep(self, key: Key, answer: Answer, generation: int) -> None:
        """Keep an answer that was asked for in this generation."""
        if generation != self.generation:
            return
        answer.kept_until = self._clock() + self._kept_seconds
        if (old := self._answers.pop(key, None)) is not None:
            self._bytes -= old.size_bytes
        self._answers[key] = answer
        self._bytes += answer.size_bytes
        while self._bytes > _MOST_BYTES:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= oldest.size_bytes


class AnswerLayer:
    """Keeps what GET and HEAD are answered by 200, but for event streams."""

    def __init__(self, app: ASGIApp, answers: KeptAnswers) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD") or path.endswith("/stream") or path in PROBES:
            await self._app(scope, receive, send)
            return
        asked = _Asked.of(scope)
        key = (path, scope["query_string"], asked.accept, asked.authorization)
        answer = self._answers.find(key) or await self._ask(scope, receive, send, key)
        if answer is not None:
            scope["route"] = answer.route
            await _send(answer, asked, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, key: Key) -> Answer | None:
        """Return a new answer, kept; None where there is none to keep, which then has been sent."""
        generation = self._answers.generation
        headers = [pair for pair in scope["headers"] if pair[0] not in _CONDITIONS]
        inner: Scope = {**scope, "method": "GET", "headers": headers}
        recorder = _Recorder(send)
        await self._app(inner, receive, recorder)
        scope["route"] = inner.get("route")
        if recorder.start is None:
            return None
        body = b"".join(recorder.bodies)
        answer = Answer(recorder.start["headers"], body, inner.get("route"), private=bool(key[3]))
        self._answers.keep(key, answer, generation)
        return answer


class _Asked(NamedTuple):
    """The headers that decide what is sent."""

    accept: bytes
    authorization: bytes
    known: bytes
    gzip: bool

    @classmethod
    def of(cls, scope: Scope) -> _Asked:
        given: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            # A header that is there twice means what it means once, with both values in it.
            given[name] = b"%s, %s" % (given[name], value) if name in given else value
        return cls(
            given.get(b"accept", b""),
            given.get(b"authorization", b""),
            given.get(b"if-none-match", b""),
            takes_gzip(given.get(b"accept-encoding", b"").decode("latin-1")),
        )


class _Recorder:
    """Takes down a response that is 200, and lets any other pass."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._passing = False
        self.start: Message | None = None
        self.bodies: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._passing = message["status"] != _OK
            if not self._passing:
                self.start = message
        elif not self._passing:
            self.bodies.append(message.get("body", b""))
        if self._passing:
            await self._send(message)


async def _send(answer: Answer, asked: _Asked, send: Send) -> None:
    if asked.known and _matches(asked.known, answer.etag):
        kept = [pair for pair in answer.headers if pair[0] != b"content-type"]
        await send({"type": "http.response.start", "status": 304, "headers": kept})
        await send({"type": "http.response.body", "body": b""})
        return
    headers, body = answer.headers, answer.body
    if asked.gzip and answer.compressible:
        body = await answer.compress()
        headers = [*headers, (b"content-encoding", b"gzip")]
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": _OK, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _matches(known: bytes, etag: bytes) -> bool:
    """Whether If-None-Match names this tag; weakly, as RFC 9110 wants it."""
    return any(tag.strip().removeprefix(b"W/") in (b"*", etag.removeprefix(b"W/")) for tag in known.split(b","))
