"""The one place that decides which gRPC status an error becomes.

Every error that leaves a server has a `google.rpc.ErrorInfo` with domain `tickwatch` and one of `REASONS`; bad input
has a `BadRequest` naming the field; where trying again helps there is a `RetryInfo`. Nothing of an unexpected exception
is told to a caller but an id under which the log has the whole of it.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.core import errors

DOMAIN = "tickwatch"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one kind of error is told to callers."""

    code: grpc.StatusCode
    reason: str
    """UPPER_SNAKE; part of the contract, so that callers may branch on it."""
    retry_seconds: float | None = None
    """After how long the same call may succeed; None where it will not."""
    private: bool = False
    """True where the error is for operators alone: callers get an id instead."""
    public_text: str = ""
    """What callers are told where the error's own text has addresses that are not theirs to know."""


_Code = grpc.StatusCode
_STORE_AWAY = "the store does not answer; what lies beyond the last 24 hours cannot be had now"
_STORE_REFUSES = "the store refuses this service; its operator has to change something"
_INTERNAL = Verdict(_Code.INTERNAL, "INTERNAL", private=True)

VERDICTS: dict[type[errors.TickwatchError], Verdict] = {
    errors.TickwatchError: _INTERNAL,
    errors.InvalidInputError: Verdict(_Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    errors.InvalidSettingError: _INTERNAL,  # a setting is the operator's; no call can make one wrong
    errors.InvalidPageTokenError: Verdict(_Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"),
    errors.InvalidCursorError: Verdict(_Code.INVALID_ARGUMENT, "INVALID_CURSOR"),
    errors.MetricNotFoundError: Verdict(_Code.NOT_FOUND, "METRIC_NOT_FOUND"),
    errors.RuleNotFoundError: Verdict(_Code.NOT_FOUND, "RULE_NOT_FOUND"),
    errors.SilenceNotFoundError: Verdict(_Code.NOT_FOUND, "SILENCE_NOT_FOUND"),
    errors.DeadLetterNotFoundError: Verdict(_Code.NOT_FOUND, "DEAD_LETTER_NOT_FOUND"),
    errors.ServiceUnknownError: Verdict(_Code.NOT_FOUND, "SERVICE_UNKNOWN"),
    errors.MethodUnknownError: Verdict(_Code.UNIMPLEMENTED, "METHOD_UNKNOWN"),
    errors.UnauthenticatedError: Verdict(_Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
    errors.PermissionDeniedError: Verdict(_Code.PERMISSION_DENIED, "PERMISSION_DENIED"),
    errors.IdentityUnavailableError: Verdict(_Code.UNAVAILABLE, "IDENTITY_UNAVAILABLE", retry_seconds=2),
    errors.CursorExpiredError: Verdict(_Code.OUT_OF_RANGE, "CURSOR_EXPIRED"),
    errors.LogMovedError: _INTERNAL,  # writers settle it among themselves
    errors.LeaseMovedError: _INTERNAL,  # as those
    errors.DeadlineTooShortError: Verdict(_Code.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT"),
    errors.NotReadyError: Verdict(_Code.UNAVAILABLE, "NOT_READY", retry_seconds=1),
    errors.TooManyStreamsError: Verdict(_Code.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_seconds=5),
    errors.SlowSubscriberError: Verdict(_Code.RESOURCE_EXHAUSTED, "SLOW_SUBSCRIBER", retry_seconds=0),
    errors.UpstreamUnavailableError: Verdict(_Code.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", retry_seconds=2),
    errors.TooManyRequestsError: Verdict(_Code.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS", retry_seconds=1),
    errors.AddressNotFoundError: Verdict(_Code.NOT_FOUND, "ADDRESS_NOT_FOUND"),
    errors.MethodNotAllowedError: Verdict(_Code.UNIMPLEMENTED, "METHOD_NOT_ALLOWED"),
    errors.StoreError: _INTERNAL,
    errors.StoreUnavailableError: Verdict(
        _Code.UNAVAILABLE, "STORE_UNAVAILABLE", retry_seconds=2, public_text=_STORE_AWAY
    ),
    errors.StoreRefusedError: Verdict(_Code.FAILED_PRECONDITION, "STORE_REFUSED", public_text=_STORE_REFUSES),
    errors.ClusterError: _INTERNAL,  # of interest to operators alone, whom the log tells
    errors.ClusterUnavailableError: _INTERNAL,
    errors.ClusterRefusedError: _INTERNAL,
    errors.ExchangeError: _INTERNAL,
    errors.ExchangeUnavailableError: Verdict(_Code.UNAVAILABLE, "EXCHANGE_UNAVAILABLE", retry_seconds=60),
    errors.ExchangeRefusedError: Verdict(_Code.FAILED_PRECONDITION, "EXCHANGE_REFUSED"),
    errors.ExchangeMalformedError: Verdict(_Code.INTERNAL, "EXCHANGE_MALFORMED"),
}
"""Every error of `services.core.errors`, each by itself: a new class without a line here fails a test."""

REASONS = frozenset(verdict.reason for verdict in VERDICTS.values())
"""The only reasons that ever leave a server."""


def verdict_on(error: BaseException) -> Verdict:
    """Return how this error is told: by its class, else its nearest ancestor in the table, else INTERNAL."""
    for kind in type(error).__mro__:
        if kind in VERDICTS:
            return VERDICTS[kind]
    return _INTERNAL


def to_wire_status(error: BaseException) -> status_pb2.Status:
    """Return the status of an error, details included.

    Where the verdict is private the error is logged with its traceback under a random id, and only the id is told.
    """
    verdict = verdict_on(error)
    message, metadata = str(error), _facts(error)
    if verdict.private:
        incident = secrets.token_hex(6)
        _log.error("internal error %s", incident, exc_info=error, extra={"incident": incident})
        message, metadata = f"internal error; the server's log has it under {incident}", {"incident": incident}
    elif verdict.public_text:
        _log.warning("%s: %s", verdict.reason, error)
        message = verdict.public_text
    status = status_pb2.Status(code=verdict.code.value[0], message=message)
    _add(status, error_details_pb2.ErrorInfo(reason=verdict.reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, errors.InvalidInputError) and not verdict.private:
        described = f"{error.problem} ({error.hint})" if error.hint else error.problem
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=described)
        _add(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if verdict.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        seconds = getattr(error, "retry_after_seconds", None) or verdict.retry_seconds
        retry.retry_delay.FromMilliseconds(round(seconds * 1000))
        _add(status, retry)
    return status


def to_grpc_status(error: BaseException) -> grpc.Status:
    """Return the status as `abort_with_status` takes it."""
    status: grpc.Status = rpc_status.to_status(to_wire_status(error))
    return status


def _facts(error: BaseException) -> dict[str, str]:  # noqa: C901, PLR0911, PLR0912 - a table by type
    """Return every changing part of the message by itself, so that no caller has to parse it (AIP-193)."""
    match error:
        case errors.InvalidInputError():
            return {"field": error.field, "problem": error.problem, "hint": error.hint}
        case errors.MetricNotFoundError():
            return {"metric": error.metric, "similar": ",".join(error.similar)}
        case errors.RuleNotFoundError():
            return {"rule": error.rule, "similar": ",".join(error.similar)}
        case errors.SilenceNotFoundError():
            return {"silence": error.silence}
        case errors.DeadLetterNotFoundError():
            return {"dead_letter": error.dead_letter}
        case errors.CursorExpiredError():
            return {"earliest_cursor": error.earliest} if error.earliest else {}
        case errors.SlowSubscriberError():
            return {"cursor": error.cursor}
        case errors.UnauthenticatedError() | errors.UpstreamUnavailableError():
            return {"problem": error.problem, "hint": error.hint}
        case errors.PermissionDeniedError():
            return {"caller": error.caller, "method": error.method, "role": error.role}
        case errors.TooManyStreamsError():
            return {"limit": str(error.limit), "client": error.client}
        case errors.TooManyRequestsError():
            rate = f"{error.requests_per_second:g}"
            return {"requests_per_second": rate, "problem": error.problem, "hint": error.hint}
        case errors.AddressNotFoundError():
            return {"path": error.path}
        case errors.MethodNotAllowedError():
            return {"method": error.method, "allowed": error.allowed}
        case errors.ExchangeError():
            return {"exchange": error.exchange, "words": error.words, "pair": error.pair or ""}
        case errors.ServiceUnknownError():
            return {"service": error.service}
        case errors.MethodUnknownError():
            return {"method": error.path}
        case _:
            return {}


def _add(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)
