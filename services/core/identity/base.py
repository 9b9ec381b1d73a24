"""Who calls, and what they may do.

It knows neither gRPC nor where a token comes from: `static` knows tokens of a file, `cluster` those of Kubernetes.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from services.core.errors import UnauthenticatedError


class Role(enum.IntEnum):
    """What a caller may do; each role may do what those below it may."""

    READ = 1
    """Ask and watch; nothing is changed by it."""
    ADMIN = 2
    """Change what others see or get: silences, dead letters."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody known."""

    name: str
    """Who, for logs and errors: no secret."""
    role: Role | None
    """None: known, but with leave for nothing."""


class TokenVerifier(ABC):
    """Knows who shows a token. Any thread may ask."""

    @abstractmethod
    def verify(self, token: str) -> Caller | None:
        """Return whose token it is, or None where it is nobody's: unknown, expired, or meant for others.

        Raises IdentityUnavailableError when that cannot be found out now. Neither its text nor a log ever has the token
        or a part of it.
        """


class FirstOf(TokenVerifier):
    """Several verifiers, asked in turn until one knows the token: cheap ones first."""

    def __init__(self, verifiers: Sequence[TokenVerifier]) -> None:
        self._verifiers = tuple(verifiers)

    def verify(self, token: str) -> Caller | None:
        for verifier in self._verifiers:
            if (caller := verifier.verify(token)) is not None:
                return caller
        return None


def bearer_token(authorization: str | bytes | None) -> str:
    """Return the token of an `authorization` header (RFC 6750); raises UnauthenticatedError where there is none."""
    if authorization is None:
        raise UnauthenticatedError("a token is required", "authorization: Bearer TOKEN")
    scheme, _, token = (authorization if isinstance(authorization, str) else "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("the authorization is not a bearer token", "authorization: Bearer TOKEN")
    return token
