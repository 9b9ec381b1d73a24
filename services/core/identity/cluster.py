"""Tokens of Kubernetes' service accounts, verified by the API server (TokenReview of authentication.k8s.io/v1).

A pod gets one from a projected volume with our audience, which the kubelet renews. What such a token may do is decided
here by whose it is. The API server is asked once a minute for a token at most, and a token that on its face cannot be
right never reaches it. Beside `catalog.cluster` and the alerter's lease the only module that knows Kubernetes' client.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fnmatch import fnmatchcase

from kubernetes import client

from services.core.catalog.cluster import Cluster, cluster_errors
from services.core.clock import Clock, SystemClock
from services.core.errors import ClusterError, IdentityUnavailableError
from services.core.identity.base import Caller, Role, TokenVerifier

CACHE_SECONDS = 60.0
"""How long an answer holds; a token withdrawn in the cluster is taken for at most so much longer."""
REFUSAL_SECONDS = 10.0
"""How long a refusal holds: shorter, for an account may be made after its pod."""

MOST_REVIEWS = 4
"""How many tokens are asked about at once: half of the threads that a server answers unary calls with."""

_MOST_KEPT = 4096
_REVIEW_SECONDS = 3.0
_LONGEST_TOKEN = 16_384
_PREFIX = "system:serviceaccount:"

_log = logging.getLogger(__name__)


class TokenReviewer(ABC):
    """Asks whose a token is."""

    @abstractmethod
    def review(self, token: str, audience: str) -> str | None:
        """Return the name of a token's user, None where the token does not hold or is not for the audience.

        Raises ClusterError.
        """


class KubernetesTokenReviewer(TokenReviewer):
    """Asks the API server; whoever runs this needs leave to create TokenReviews (ClusterRole system:auth-delegator)."""

    def __init__(self, cluster: Cluster) -> None:
        self._api = client.AuthenticationV1Api(cluster.api)

    def review(self, token: str, audience: str) -> str | None:
        asked = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=[audience]))
        with cluster_errors("reviewing a token"):
            status = self._api.create_token_review(asked, _request_timeout=_REVIEW_SECONDS).status
        # An authenticator that knows no audiences says nothing of them, and would take a token meant for others.
        if status is None or not status.authenticated or audience not in (status.audiences or ()):
            return None
        return (status.user and status.user.username) or None


@dataclass(frozen=True, slots=True)
class _Answer:
    caller: Caller | None
    until: float
    """Holds before this moment of `Clock.elapsed`."""
    expires: float
    """And before this one of `Clock.now`: a token's own end."""


class ServiceAccountTokens(TokenVerifier):
    """Tokens of service accounts for an audience.

    `readers` and `admins` say by globs of NAMESPACE/NAME which accounts may do what; whoever is in neither is known,
    and may do nothing.
    """

    def __init__(
        self,
        reviewer: TokenReviewer,
        audience: str,
        *,
        readers: Sequence[str] = (),
        admins: Sequence[str] = (),
        clock: Clock | None = None,
        most_kept: int = _MOST_KEPT,
    ) -> None:
        self._reviewer = reviewer
        self._audience = audience
        self._readers = tuple(readers)
        self._admins = tuple(admins)
        self._clock = clock or SystemClock()
        self._most_kept = most_kept
        self._guard = threading.Lock()
        self._pending: dict[bytes, Future[_Answer]] = {}
        # Apart, so that whoever invents tokens pushes out no answer that is good.
        self._taken: OrderedDict[bytes, _Answer] = OrderedDict()
        self._refused: OrderedDict[bytes, _Answer] = OrderedDict()

    def verify(self, token: str) -> Caller | None:
        key = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        if (answer := self._kept(key)) is not None:
            return answer.caller
        expires = self._expiry(token)
        if expires is None:
            return None
        return self._answer(key, token, expires).caller

    def _answer(self, key: bytes, token: str, expires: float) -> _Answer:
        """Ask the API server, or wait for the answer that somebody who shows the same token has asked for.

        Each question holds a thread that others need. Above a few at once a new one is refused instead of waiting, so
        that whoever invents tokens holds up no caller who is known.
        """
        with self._guard:
            asked = self._pending.get(key)
            if asked is None:
                if len(self._pending) >= MOST_REVIEWS:
                    raise IdentityUnavailableError("too many tokens are being verified")
                own = self._pending[key] = Future()
        if asked is not None:
            return asked.result()
        try:
            answer = self._review(token, expires)
        except BaseException as error:
            own.set_exception(error)
            raise
        else:
            self._keep(key, answer)
            own.set_result(answer)
        finally:
            with self._guard:
                del self._pending[key]
        return answer

    def _review(self, token: str, expires: float) -> _Answer:
        try:
            user = self._reviewer.review(token, self._audience)
        except ClusterError as error:
            _log.warning("no token can be verified: %s", error)
            raise IdentityUnavailableError("the cluster does not say whose the token is") from error
        caller = self._caller(user)
        return _Answer(caller, self._clock.elapsed() + (CACHE_SECONDS if caller else REFUSAL_SECONDS), expires)

    def _caller(self, user: str | None) -> Caller | None:
        namespace, found, name = (user or "").removeprefix(_PREFIX).partition(":")
        if user is None or not user.startswith(_PREFIX) or not found:
            return None  # nobody, or somebody who is no service account
        account = f"{namespace}/{name}"
        for role, globs in ((Role.ADMIN, self._admins), (Role.READ, self._readers)):
            if any(fnmatchcase(account, glob) for glob in globs):
                return Caller(account, role)
        return Caller(account, None)

    def _expiry(self, token: str) -> float | None:
        """Return when a token ends by its own words; None where it has ended, is for others or no such token at all.

        Its words are proven by nobody here: they only ever lead to a refusal, or shorten what the API server has said.
        """
        try:
            _, payload, _ = token.encode("ascii").split(b".")
            if len(token) > _LONGEST_TOKEN:
                return None
            claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
            expires, audiences = float(claims["exp"]), claims["aud"]
        except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
            return None
        audiences = [audiences] if isinstance(audiences, str) else audiences
        if not isinstance(audiences, list) or self._audience not in audiences:
            return None
        return expires if self._clock.now() < expires else None

    def _kept(self, key: bytes) -> _Answer | None:
        with self._guard:
            answer = self._taken.get(key) or self._refused.get(key)
            if answer and self._clock.elapsed() < answer.until and self._clock.now() < answer.expires:
                return answer
            return None

    def _keep(self, key: bytes, answer: _Answer) -> None:
        with self._guard:
            self._taken.pop(key, None)
            self._refused.pop(key, None)
            kept = self._taken if answer.caller else self._refused
            kept[key] = answer
            while len(kept) > self._most_kept:
                kept.popitem(last=False)
