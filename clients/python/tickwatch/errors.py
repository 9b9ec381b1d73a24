"""What can go wrong, as exceptions that say what to do about it.

Error                       any failed call; `reason` is stable, `message` is for people
├── InvalidInputError       correct the argument that `field` names
├── NotFoundError           there is no such thing; `similar` names the nearest
│   ├── MetricNotFoundError     no such metric in the store
│   └── RuleNotFoundError       no such rule in force
├── UnauthenticatedError    the service does not know who calls: show another token or certificate
├── PermissionDeniedError   it knows, and the role does not allow the call
├── CursorExpiredError      the stream cannot be resumed without a gap: read the history anew
├── UnavailableError        try again, after `retry_after_seconds` where that is known
└── DeadlineExceededError   no answer in time
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from google.rpc import status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


class Error(Exception):
    """A call that failed.

    `code` is the gRPC status as a word, such as NOT_FOUND. `reason` is the service's own, such as METRIC_NOT_FOUND, or
    empty where the failure did not come from the service. `field` says which argument is wrong. `problem` and `hint`
    are the two parts of the message: what is wrong, and what would be right or might help, empty where nobody knows.
    `metadata` has every changing part of the message.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        field: str = "",
        retry_after_seconds: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.metadata = metadata or {}

    @property
    def problem(self) -> str:
        """What is wrong, behind the field's name where it is one's: the message without the hint."""
        problem = self.metadata.get("problem")
        if not problem:
            return self.message
        return f"{self.field}: {problem}" if self.field else problem

    @property
    def hint(self) -> str:
        """What would be right, or might help; empty where nobody knows."""
        return self.metadata.get("hint", "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code}, {self.reason}, {self.message!r})"


class InvalidInputError(Error):
    """An argument is wrong; `field` names it."""


class NotFoundError(Error):
    """There is no such metric, rule, silence or dead letter."""

    @property
    def similar(self) -> tuple[str, ...]:
        """The nearest names that the service knows."""
        return tuple(name for name in self.metadata.get("similar", "").split(",") if name)


class MetricNotFoundError(NotFoundError):
    """The store has no point of this metric."""


class RuleNotFoundError(NotFoundError):
    """No rule of this name is in force."""


class UnauthenticatedError(Error):
    """The service does not know who calls: no token or certificate, or none that holds."""


class PermissionDeniedError(Error):
    """The caller is known, and may not do this."""


class CursorExpiredError(Error):
    """The service has forgotten what followed the cursor."""

    @property
    def earliest_cursor(self) -> str:
        """The first cursor that still resumes; empty where the service does not say."""
        return self.metadata.get("earliest_cursor", "")


class UnavailableError(Error):
    """Nobody answers, or the one who answers asks to be called later."""


class DeadlineExceededError(Error):
    """The answer did not come in time."""


_BY_CODE: dict[grpc.StatusCode, type[Error]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.OUT_OF_RANGE: CursorExpiredError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}

_BY_REASON: dict[str, type[Error]] = {
    "METRIC_NOT_FOUND": MetricNotFoundError,
    "RULE_NOT_FOUND": RuleNotFoundError,
}


def from_rpc_error(error: grpc.aio.AioRpcError) -> Error:
    """Return what a failed call means, read from the details in its trailers where there are some."""
    from google.rpc import error_details_pb2  # noqa: PLC0415  # nobody waits for it whose calls succeed

    code, message = error.code(), error.details() or ""
    info, reason, field, retry = error_details_pb2.ErrorInfo(), "", "", None
    for detail in _details(error):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
            reason = info.reason
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad_request = error_details_pb2.BadRequest()
            detail.Unpack(bad_request)
            field = bad_request.field_violations[0].field if bad_request.field_violations else ""
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_info = error_details_pb2.RetryInfo()
            detail.Unpack(retry_info)
            retry = retry_info.retry_delay.ToTimedelta().total_seconds()
    metadata = dict(info.metadata)
    if not reason and code is grpc.StatusCode.UNAVAILABLE and "unhealthy" in message:
        # The channel's own words for a server whose health says NOT_SERVING.
        metadata = {"problem": "the service is still loading, or about to stop", "hint": "try again in a moment"}
        reason, message = "NOT_READY", "; ".join(metadata.values())
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, Error)
    return kind(
        code.name,
        reason,
        message,
        field=field,
        retry_after_seconds=retry,
        metadata=metadata,
    )


def _details(error: grpc.aio.AioRpcError) -> list[status_pb2.Any]:
    from google.protobuf.message import DecodeError  # noqa: PLC0415  # as above
    from google.rpc import status_pb2  # noqa: PLC0415  # as above

    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:  # somebody else's trailer of the same name
                return []
    return []
