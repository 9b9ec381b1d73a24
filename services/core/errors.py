"""Every error that Tickwatch raises on purpose.

Callers catch by what they can do about it: correct the input, wait and try again, or give up. Adapters turn the
exceptions of their libraries into these, chaining the original, so that no HTTP, SQL or gRPC type leaves its module.
Which status a caller sees is decided in `services.core.rpc.status` alone.

    TickwatchError
    ├── InvalidInputError          what was given is wrong; names the field
    │   ├── InvalidSettingError    in a settings file, a TICKWATCH_* variable or a store URL
    │   ├── InvalidPageTokenError
    │   └── InvalidCursorError
    ├── MetricNotFoundError
    ├── RuleNotFoundError
    ├── SilenceNotFoundError
    ├── DeadLetterNotFoundError
    ├── ServiceUnknownError        asked for the health of a service that is not here
    ├── MethodUnknownError         called what no service here has
    ├── UnauthenticatedError       the caller has not shown who he is
    ├── PermissionDeniedError      the caller is known, and may not do this
    ├── IdentityUnavailableError   who the caller is cannot be found out now; try again
    ├── CursorExpiredError         valid once, too old now, or of another store's log
    ├── LogMovedError              somebody else has appended to the log of breaches; read it again
    ├── LeaseMovedError            somebody else has written the lease since it was read
    ├── DeadlineTooShortError      the caller leaves no time for the work
    ├── NotReadyError              still loading, or draining; try again
    ├── TooManyStreamsError        this server's limit of streams is reached; try again
    ├── SlowSubscriberError        a stream was read too slowly; resume from its cursor
    ├── UpstreamUnavailableError   the service behind the gateway does not answer; try again
    ├── TooManyRequestsError       a client of the gateway asks more often than it may; try again
    ├── AddressNotFoundError       the gateway has nothing at this address
    ├── MethodNotAllowedError      the address is right, but is asked by another HTTP method
    ├── StoreError
    │   ├── StoreUnavailableError  out of reach within the deadline; try again
    │   └── StoreRefusedError      reached, but it said no: credentials, a missing bucket, a newer schema
    ├── ClusterError               in the API server's own words
    │   ├── ClusterUnavailableError    no answer within the deadline, or one that says "later"
    │   └── ClusterRefusedError        it said no: credentials, rights, a kind that is not installed
    └── ExchangeError              in the exchange's own words
        ├── ExchangeUnavailableError   no answer, or one that says "later"
        ├── ExchangeRefusedError       the exchange said no to this request
        └── ExchangeMalformedError     an answer that is not in the documented format
"""

from __future__ import annotations


class TickwatchError(Exception):
    """Base of all errors raised on purpose; its text is meant for people."""


class InvalidInputError(TickwatchError):
    """What was given is wrong: `field` names it, `problem` says why, `hint` says what would be right."""

    def __init__(self, field: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{field}: {problem}" + (f" ({hint})" if hint else ""))
        self.field = field
        self.problem = problem
        self.hint = hint


class InvalidSettingError(InvalidInputError):
    """A setting is wrong; `field` is its dotted name, prefixed by file and line where it has them."""


class InvalidPageTokenError(InvalidInputError):
    """A page token that this service did not issue for this request, or whose snapshot is gone."""

    def __init__(self, problem: str) -> None:
        super().__init__("page_token", problem, "start again with an empty page_token")


class InvalidCursorError(InvalidInputError):
    """A cursor that no stream of this store has sent."""

    def __init__(self, problem: str) -> None:
        super().__init__("cursor", problem, "open the stream without a cursor")


class MetricNotFoundError(TickwatchError):
    """No series of this metric is in the store; `similar` holds the nearest names that are."""

    def __init__(self, metric: str, similar: tuple[str, ...] = ()) -> None:
        hint = f"; did you mean {', '.join(similar)}?" if similar else ""
        super().__init__(f"metric {metric!r} has no points in the store{hint}")
        self.metric = metric
        self.similar = similar


class ServiceUnknownError(TickwatchError):
    """No service of this name is served here; asked of the health service."""

    def __init__(self, service: str) -> None:
        super().__init__(f"no service {service!r} is served here")
        self.service = service


class MethodUnknownError(TickwatchError):
    """No service here has a method of this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no method {path!r} is served here; a server of another version or of another service may")
        self.path = path


class RuleNotFoundError(TickwatchError):
    """No rule of this name is in force; `similar` holds the nearest names that are."""

    def __init__(self, rule: str, similar: tuple[str, ...] = ()) -> None:
        hint = f"; did you mean {', '.join(similar)}?" if similar else ""
        super().__init__(f"no rule {rule!r} is in force{hint}")
        self.rule = rule
        self.similar = similar


class SilenceNotFoundError(TickwatchError):
    """No silence of this id holds."""

    def __init__(self, silence: str) -> None:
        super().__init__(f"no silence {silence!r} holds")
        self.silence = silence


class DeadLetterNotFoundError(TickwatchError):
    """There is no dead letter of this id."""

    def __init__(self, dead_letter: str) -> None:
        super().__init__(f"there is no dead letter {dead_letter!r}")
        self.dead_letter = dead_letter


class UnauthenticatedError(TickwatchError):
    """The caller has shown nothing by which he is known; `hint` says what to show. Neither ever has a token in it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem} ({hint})")
        self.problem = problem
        self.hint = hint


class PermissionDeniedError(TickwatchError):
    """The caller is known by name, but lacks the role that a method needs."""

    def __init__(self, caller: str, method: str, role: str) -> None:
        super().__init__(f"{caller} may not call {method}, which needs the role {role}")
        self.caller = caller
        self.method = method
        self.role = role


class IdentityUnavailableError(TickwatchError):
    """Who the caller is cannot be found out now; the same call may succeed later."""


class CursorExpiredError(TickwatchError):
    """The cursor was valid, but what came right after it is not here; `earliest` resumes what is, if it is known."""

    def __init__(self, problem: str, earliest: str = "") -> None:
        super().__init__(problem)
        self.earliest = earliest


class LogMovedError(TickwatchError):
    """The log of breaches does not end where its writer thinks: another writer has appended to it."""


class LeaseMovedError(TickwatchError):
    """The lease is not what was read any more: somebody else has written it, or taken it away."""


class DeadlineTooShortError(TickwatchError):
    """The caller's deadline leaves no time for the work; nothing was begun."""


class NotReadyError(TickwatchError):
    """The service cannot answer yet or any more; try again, perhaps elsewhere."""


class TooManyStreamsError(TickwatchError):
    """This server already serves as many streams as it may, in all or, where `client` is named, to this one."""

    def __init__(self, limit: int, client: str = "") -> None:
        whose = "its limit for one client" if client else "its limit"
        super().__init__(f"this server already serves {limit} streams{f' to {client}' if client else ''}, {whose}")
        self.limit = limit
        self.client = client


class SlowSubscriberError(TickwatchError):
    """A stream was read more slowly than news came; `cursor` resumes it without loss."""

    def __init__(self, cursor: str) -> None:
        super().__init__("the stream was read more slowly than news came; resume from the cursor")
        self.cursor = cursor


class UpstreamUnavailableError(TickwatchError):
    """The service behind the gateway gave no answer at all; the same request may succeed later."""

    problem = "the service behind this gateway does not answer"
    hint = "try again in a moment"

    def __init__(self) -> None:
        super().__init__(f"{self.problem}; {self.hint}")


class TooManyRequestsError(TickwatchError):
    """A client has asked more often than it may; `retry_after_seconds` says when it may ask again."""

    def __init__(self, requests_per_second: float, retry_after_seconds: float) -> None:
        self.problem = f"more than {requests_per_second:g} requests per second"
        self.hint = "try again a little later"
        super().__init__(f"{self.problem}; {self.hint}")
        self.requests_per_second = requests_per_second
        self.retry_after_seconds = retry_after_seconds


class AddressNotFoundError(TickwatchError):
    """Nothing is served at this path."""

    def __init__(self, path: str) -> None:
        hint = "no address ends with /" if path.endswith("/") else "/openapi.json lists what there is"
        super().__init__(f"there is nothing at {path!r}; {hint}")
        self.path = path


class MethodNotAllowedError(TickwatchError):
    """The path is served, but not by this HTTP method; `allowed` are those it is, joined by commas."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not possible here (only {allowed})")
        self.method = method
        self.allowed = allowed


class StoreError(TickwatchError):
    """The store failed; `store` is its URL without credentials."""

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(f"{store}: {problem}")
        self.store = store


class StoreUnavailableError(StoreError):
    """The store did not answer within its deadline; the same call may succeed later."""


class StoreRefusedError(StoreError):
    """The store answered and refused; the same call will fail until somebody changes something."""


class ClusterError(TickwatchError):
    """The Kubernetes API server failed; `doing` says at what, `words` are its own."""

    def __init__(self, doing: str, words: str) -> None:
        super().__init__(f"{doing}: {words}")
        self.doing = doing
        self.words = words


class ClusterUnavailableError(ClusterError):
    """The API server did not answer, or asked to be called later; the same call may succeed then."""


class ClusterRefusedError(ClusterError):
    """The API server said no; the same call will fail until somebody changes something."""


class ExchangeError(TickwatchError):
    """An exchange failed; `words` are its own, `pair` is None where the failure is of the whole exchange."""

    def __init__(self, exchange: str, words: str, pair: str | None = None) -> None:
        super().__init__(f"{exchange}:{pair}: {words}" if pair else f"{exchange}: {words}")
        self.exchange = exchange
        self.words = words
        self.pair = pair


class ExchangeUnavailableError(ExchangeError):
    """The exchange did not answer, or asked to be called later; `retry_after_seconds` where it said when."""

    def __init__(
        self, exchange: str, words: str, pair: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(exchange, words, pair)
        self.retry_after_seconds = retry_after_seconds


class ExchangeRefusedError(ExchangeError):
    """The exchange said no to this request, as to an unknown pair; trying again changes nothing."""


class ExchangeMalformedError(ExchangeError):
    """The exchange's answer is not in its documented format; nothing of it is used."""
