"""How a command puts a question to a service: one client, one answer, and every refusal as one line with a hint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import click
import tickwatch

Client = TypeVar("Client")
Answer = TypeVar("Answer")


class WrongInput(click.ClickException):  # named as click's own exceptions are
    """What the service finds wrong about the words that were typed: the exit code is that of wrong usage."""

    exit_code = 2


def ask(
    client: AbstractAsyncContextManager[Client],
    address: str,
    option: str,
    question: Callable[[Client], Coroutine[Any, Any, Answer]],
) -> Answer:
    """Put a question to the service at `address`, which `option` names; raises ClickException for a refusal."""

    async def run() -> Answer:
        async with client as opened:
            return await question(opened)

    try:
        return asyncio.run(run())
    except tickwatch.Error as error:
        raise refusal(error, address, option) from error


def refusal(error: tickwatch.Error, address: str, option: str) -> click.ClickException:
    """Return what a person is told of a failed call."""
    hint = error.hint
    if error.code == "UNAVAILABLE" and not error.reason:
        hint = _no_connection(error.message, address, option)
    elif error.code == "UNAUTHENTICATED":
        hint = "--token-file names a file that holds a token"
    kind = WrongInput if error.code == "INVALID_ARGUMENT" else click.ClickException
    return kind(f"{error.problem} ({hint})" if hint else error.message)


def _no_connection(message: str, address: str, option: str) -> str:
    """Return what may be wrong where no connection came about, by what gRPC says of it."""
    if "WRONG_VERSION_NUMBER" in message:
        return f"{address} does not speak TLS: leave out --tls and --ca, or say --plaintext"
    if "handshake" in message:
        return "--ca has to name the authority that signed the server's certificate"
    if "Socket closed" in message or "reset" in message:
        return f"{address} hangs up: it may want TLS (--tls, --ca), or a certificate of ours (--cert, --key)"
    return f"is one running at {address}? `tickwatch up` starts one; {option} names another"
