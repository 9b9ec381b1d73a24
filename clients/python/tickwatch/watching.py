"""A watch that outlives its streams: three generators, each with one duty.

`watch` leaves out what only keeps the watch alive, `_resumed` opens streams for ever and knows where to go on, and
`_stream` reads one stream and always cancels its call: an abandoned one would live on in both processes. They know of
messages nothing but their cursor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol, TypeAlias, TypeVar, cast

import grpc

from tickwatch.errors import Error, UnavailableError, from_rpc_error

RETRYABLE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # too slow, or too many streams: the cursor resumes it
    grpc.StatusCode.CANCELLED,  # by the server; a cancellation of our own is an exception of asyncio
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,  # proxies report a broken connection so
    grpc.StatusCode.UNKNOWN,
)
TERMINAL = tuple(code for code in grpc.StatusCode if code not in (*RETRYABLE, grpc.StatusCode.OK))

SILENCE_SECONDS = 45.0
"""The services send a bookmark every 15 s; three missing ones mean that nobody is there."""

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0

_ENDED = UnavailableError("UNAVAILABLE", "", "the service ended the stream")

_names = {code.name for code in RETRYABLE}


class _Resumable(Protocol):
    """A request, or a message, of a stream that can be resumed."""

    cursor: str


Request = TypeVar("Request", bound=_Resumable)
Message = TypeVar("Message", bound=_Resumable)

Open: TypeAlias = "Callable[[Request], grpc.aio.UnaryStreamCall[Request, Message]]"
OnRetry = Callable[[Error, float], object]


async def watch(
    open_stream: Open[Request, Message],
    request: Request,
    *,
    wanted: Callable[[Message], bool],
    patience_seconds: float,
    on_retry: OnRetry | None,
) -> AsyncGenerator[Message, None]:
    """Yield the wanted messages for ever."""
    async with aclosing(_resumed(open_stream, request, patience_seconds, on_retry)) as messages:
        async for message in messages:
            if wanted(message):
                yield message


async def _resumed(
    open_stream: Open[Request, Message], request: Request, patience_seconds: float, on_retry: OnRetry | None
) -> AsyncGenerator[Message, None]:
    """Open one stream after another, each where the one before stopped.

    Raises Error for a terminal status, and for any while nothing has ever come for `patience_seconds`: then the address
    is more likely wrong than the service away.
    """
    failures, began, heard = 0, time.monotonic(), False
    while True:
        opened = time.monotonic()
        error: Error = _ENDED
        try:
            async with aclosing(_stream(open_stream, request)) as messages:
                async for message in messages:
                    failures, heard = 0, True
                    # The next stream goes on behind what the caller has had, so the cursor moves when he comes back.
                    yield message
                    request.cursor = message.cursor
        except Error as broken:
            error = broken
            patient = heard or time.monotonic() - began < patience_seconds
            if error.code not in _names or not patient:
                raise
        if error is _ENDED and time.monotonic() - opened > _FIRST_PAUSE_SECONDS:
            continue  # at its greatest age, or because its server stops: the next server has it at once
        import random  # noqa: PLC0415  # nobody waits for it whose stream holds

        pause = min(_FIRST_PAUSE_SECONDS * 2**failures, _LONGEST_PAUSE_SECONDS)
        pause = max(pause * random.uniform(0.5, 1.0), error.retry_after_seconds or 0.0)  # noqa: S311 - jitter
        failures += 1
        if on_retry is not None:
            on_retry(error, pause)
        await asyncio.sleep(pause)


async def _stream(open_stream: Open[Request, Message], request: Request) -> AsyncGenerator[Message, None]:
    """Read one stream to its end; raises Error for any that is not OK, silence included."""
    call = open_stream(request)
    try:
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await call.read()
            except TimeoutError:
                raise UnavailableError(
                    "UNAVAILABLE", "", f"the stream was silent for {SILENCE_SECONDS:.0f} s"
                ) from None
            if message is grpc.aio.EOF:
                return
            yield cast(Message, message)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    finally:
        call.cancel()
