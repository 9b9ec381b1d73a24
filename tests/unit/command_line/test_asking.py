"""What a person is told of a refusal: what is wrong, and once what would help, from the error's parts."""

from __future__ import annotations

import grpc
import pytest
import tickwatch
from tickwatch.errors import from_rpc_error
from tickwatch.messages import wrong

from services.command_line.asking import refusal
from services.core import errors
from services.core.rpc.status import to_grpc_status


def from_service(error: Exception) -> tickwatch.Error:
    """Return an error of ours as the client has it after a call."""
    status = to_grpc_status(error)
    trailers = grpc.aio.Metadata(*status.trailing_metadata)
    return from_rpc_error(grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailers, status.details))


def unhealthy() -> tickwatch.Error:
    """Return what a channel says of a server that loads."""
    words = "connections to all backends failing; last error: unhealthy"
    return from_rpc_error(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), words)
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            from_service(errors.InvalidInputError("limit", "0 is too few", "1 or more")),
            "limit: 0 is too few (1 or more)",
        ),
        (wrong("limit", "0 is too few", "1 or more"), "limit: 0 is too few (1 or more)"),
        (from_service(errors.InvalidInputError("limit", "0 is (too) few")), "limit: 0 is (too) few"),
        (
            from_service(errors.UnauthenticatedError("a token is required", "authorization: Bearer TOKEN")),
            "a token is required (--token-file names a file that holds a token)",
        ),
        (unhealthy(), "the service is still loading, or about to stop (try again in a moment)"),
        (
            from_service(errors.MetricNotFoundError("A:B", ("A:C",))),
            "metric 'A:B' has no points in the store; did you mean A:C?",
        ),
        (
            tickwatch.UnavailableError("UNAVAILABLE", "", "nobody there"),
            "nobody there (is one running at HOST:1? `tickwatch up` starts one; --server names another)",
        ),
    ],
)
def test_a_hint_is_said_once(error: tickwatch.Error, told: str) -> None:
    """Whether the service says it in its message, the client does or the command, and whatever else the message has."""
    assert refusal(error, "HOST:1", "--server").message == told
