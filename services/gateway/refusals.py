"""How a refusal is told over HTTP: as JSON after AIP-193, with the reason that a gRPC caller would have got.

Which reason an error has is decided in `services.core.rpc.status`, here only which HTTP status that is.
"""

from __future__ import annotations

from typing import NamedTuple

import grpc
import orjson
import tickwatch
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from starlette.responses import Response

from services.core.errors import MethodNotAllowedError, UpstreamUnavailableError
from services.core.rpc.status import DOMAIN, to_wire_status

HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""The mapping that google/rpc/code.proto states."""

_NOT_ALLOWED = 405
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SILENCE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""What gRPC itself says when nobody answers."""


class Refusal(NamedTuple):
    """An error as an HTTP answer."""

    status: int
    body: bytes
    """{"error": {code, status, message, details}}, UTF-8."""
    headers: dict[str, str]

    def response(self) -> Response:
        """Return it for a route to return."""
        return Response(self.body, self.status, self.headers, "application/json")


def refusal_of(error: BaseException) -> Refusal:
    """Return how an error is told.

    What neither a service nor the gateway has raised on purpose is told as INTERNAL, with the id under which the log
    has it.
    """
    status = _status_of(error)
    code = _CODES[status.code]
    number = _NOT_ALLOWED if isinstance(error, MethodNotAllowedError) else HTTP_STATUS[code]
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = error.allowed
    if code is grpc.StatusCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    details = [MessageToDict(detail) for detail in status.details]
    for detail in details:
        if delay := detail.get("retryDelay"):
            # HTTP knows whole seconds only, and 0 would be an invitation to try at once.
            headers["Retry-After"] = str(max(1, round(float(delay.removesuffix("s")))))
    document = {"code": number, "status": code.name, "message": status.message, "details": details}
    return Refusal(number, orjson.dumps({"error": document}), headers)


def _status_of(error: BaseException) -> status_pb2.Status:
    """Return an error's status, that of a service's refusal as the service has told it."""
    if not isinstance(error, tickwatch.Error):
        return to_wire_status(error)
    if not error.reason:
        return to_wire_status(UpstreamUnavailableError() if error.code in _SILENCE else error)
    status = status_pb2.Status(code=grpc.StatusCode[error.code].value[0], message=error.message)
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.field:
        problem = error.metadata.get("problem", error.message)
        described = f"{problem} ({error.hint})" if error.hint else problem
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=described)
        _add(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_seconds * 1000))
        _add(status, retry)
    return status


def _add(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)
