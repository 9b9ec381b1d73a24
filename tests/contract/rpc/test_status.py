"""The error table is complete, and every error that leaves a server is told the same way."""

from __future__ import annotations

import inspect
import re

import pytest
from google.rpc import error_details_pb2

from services.core import errors
from services.core.rpc.status import DOMAIN, REASONS, VERDICTS, to_wire_status, verdict_on

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.TickwatchError)]

EXAMPLES: dict[type[errors.TickwatchError], errors.TickwatchError] = {
    errors.TickwatchError: errors.TickwatchError("x"),
    errors.InvalidInputError: errors.InvalidInputError("f", "p", "h"),
    errors.InvalidSettingError: errors.InvalidSettingError("f", "p", "h"),
    errors.InvalidPageTokenError: errors.InvalidPageTokenError("p"),
    errors.InvalidCursorError: errors.InvalidCursorError("p"),
    errors.MetricNotFoundError: errors.MetricNotFoundError("A:B", ("A:C", "A:D")),
    errors.RuleNotFoundError: errors.RuleNotFoundError("r", ("s", "t")),
    errors.SilenceNotFoundError: errors.SilenceNotFoundError("i"),
    errors.DeadLetterNotFoundError: errors.DeadLetterNotFoundError("i"),
    errors.ServiceUnknownError: errors.ServiceUnknownError("s"),
    errors.MethodUnknownError: errors.MethodUnknownError("/s/m"),
    errors.UnauthenticatedError: errors.UnauthenticatedError("p", "h"),
    errors.PermissionDeniedError: errors.PermissionDeniedError("c", "/s/m", "admin"),
    errors.IdentityUnavailableError: errors.IdentityUnavailableError("x"),
    errors.CursorExpiredError: errors.CursorExpiredError("x", "earliest"),
    errors.LogMovedError: errors.LogMovedError("x"),
    errors.LeaseMovedError: errors.LeaseMovedError("x"),
    errors.DeadlineTooShortError: errors.DeadlineTooShortError("x"),
    errors.NotReadyError: errors.NotReadyError("x"),
    errors.TooManyStreamsError: errors.TooManyStreamsError(7, "c"),
    errors.SlowSubscriberError: errors.SlowSubscriberError("c"),
    errors.UpstreamUnavailableError: errors.UpstreamUnavailableError(),
    errors.TooManyRequestsError: errors.TooManyRequestsError(50, 0.2),
    errors.AddressNotFoundError: errors.AddressNotFoundError("/p"),
    errors.MethodNotAllowedError: errors.MethodNotAllowedError("PUT", "GET"),
    errors.StoreError: errors.StoreError("url", "x"),
    errors.StoreUnavailableError: errors.StoreUnavailableError("url", "x"),
    errors.StoreRefusedError: errors.StoreRefusedError("url", "x"),
    errors.ClusterError: errors.ClusterError("doing", "x"),
    errors.ClusterUnavailableError: errors.ClusterUnavailableError("doing", "x"),
    errors.ClusterRefusedError: errors.ClusterRefusedError("doing", "x"),
    errors.ExchangeError: errors.ExchangeError("E", "w", "P"),
    errors.ExchangeUnavailableError: errors.ExchangeUnavailableError("E", "w", "P", 12.0),
    errors.ExchangeRefusedError: errors.ExchangeRefusedError("E", "w"),
    errors.ExchangeMalformedError: errors.ExchangeMalformedError("E", "w"),
}


def test_every_error_is_in_the_table() -> None:
    """Each class by itself, so that nobody adds one without saying how callers are told."""
    assert set(CLASSES) == set(VERDICTS) == set(EXAMPLES)


def test_the_reasons_are_these() -> None:
    """Reasons are part of the contract: one added or renamed is a decision, and this list is where it shows."""
    assert sorted(REASONS) == [
        "ADDRESS_NOT_FOUND",
        "CURSOR_EXPIRED",
        "DEADLINE_TOO_SHORT",
        "DEAD_LETTER_NOT_FOUND",
        "EXCHANGE_MALFORMED",
        "EXCHANGE_REFUSED",
        "EXCHANGE_UNAVAILABLE",
        "IDENTITY_UNAVAILABLE",
        "INTERNAL",
        "INVALID_CURSOR",
        "INVALID_FIELD",
        "INVALID_PAGE_TOKEN",
        "METHOD_NOT_ALLOWED",
        "METHOD_UNKNOWN",
        "METRIC_NOT_FOUND",
        "NOT_READY",
        "PERMISSION_DENIED",
        "RULE_NOT_FOUND",
        "SERVICE_UNKNOWN",
        "SILENCE_NOT_FOUND",
        "SLOW_SUBSCRIBER",
        "STORE_REFUSED",
        "STORE_UNAVAILABLE",
        "TOO_MANY_REQUESTS",
        "TOO_MANY_STREAMS",
        "UNAUTHENTICATED",
        "UPSTREAM_UNAVAILABLE",
    ]
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,62}", reason) for reason in REASONS)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_its_details(kind: type[errors.TickwatchError]) -> None:
    """ErrorInfo always, BadRequest for input, RetryInfo for what a retry helps; each detail at most once (AIP-193)."""
    error = EXAMPLES[kind]
    status = to_wire_status(error)
    details = {detail.TypeName(): detail for detail in status.details}
    info = error_details_pb2.ErrorInfo()
    details["google.rpc.ErrorInfo"].Unpack(info)
    verdict = verdict_on(error)

    assert len(details) == len(status.details)
    assert (info.domain, info.reason) == (DOMAIN, verdict.reason)
    assert status.code == verdict.code.value[0] != 0
    bad_input = isinstance(error, errors.InvalidInputError) and not verdict.private
    assert ("google.rpc.BadRequest" in details) == bad_input
    assert ("google.rpc.RetryInfo" in details) == (verdict.code.name in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"))
    assert "url" not in status.message


def test_metadata_has_the_changing_parts() -> None:
    """What changes from call to call stands in the metadata too, so that nobody parses messages."""

    def metadata(error: Exception) -> dict[str, str]:
        info = error_details_pb2.ErrorInfo()
        to_wire_status(error).details[0].Unpack(info)
        return dict(info.metadata)

    assert metadata(EXAMPLES[errors.MetricNotFoundError]) == {"metric": "A:B", "similar": "A:C,A:D"}
    assert metadata(EXAMPLES[errors.SlowSubscriberError]) == {"cursor": "c"}
    assert metadata(EXAMPLES[errors.TooManyStreamsError]) == {"limit": "7", "client": "c"}
    assert metadata(EXAMPLES[errors.InvalidInputError]) == {"field": "f", "problem": "p", "hint": "h"}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_says_problem_and_hint(kind: type[errors.TickwatchError]) -> None:
    """Where the metadata has a hint it has the problem, too, and the message both: nobody has to look for one in it."""
    status = to_wire_status(EXAMPLES[kind])
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)

    assert not info.metadata.get("hint") or info.metadata["problem"]
    assert all(info.metadata.get(part, "") in status.message for part in ("problem", "hint"))


def test_unknown_exceptions_and_descendants() -> None:
    """A subclass is told as its nearest ancestor; what is not ours is INTERNAL with an id and nothing else."""

    class OddInput(errors.InvalidCursorError):
        """A descendant that the table does not have."""

    assert verdict_on(OddInput("x")).reason == "INVALID_CURSOR"
    status = to_wire_status(KeyError("secret"))
    assert status.code == 13
    assert "secret" not in str(status)


def test_retry_after_of_an_exchange_is_handed_on() -> None:
    """Where somebody said when to come back, that is what the caller is told."""
    retry = error_details_pb2.RetryInfo()
    to_wire_status(EXAMPLES[errors.ExchangeUnavailableError]).details[1].Unpack(retry)

    assert retry.retry_delay.seconds == 12
