"""Tokens of service accounts: who may what, for how long an answer holds, and what never reaches the API server."""

from __future__ import annotations

import base64
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.core.clock import ManualClock
from services.core.errors import ClusterUnavailableError, IdentityUnavailableError
from services.core.identity.base import Caller, Role
from services.core.identity.cluster import (
    CACHE_SECONDS,
    MOST_REVIEWS,
    REFUSAL_SECONDS,
    ServiceAccountTokens,
    TokenReviewer,
)
from tests.support.commands import until
from tests.support.query import NOW


class ScriptedReviewer(TokenReviewer):
    """Knows tokens by heart, counts what it is asked, and is away when it is told to be."""

    def __init__(self, users: dict[str, str]) -> None:
        self.users = users
        self.asked: list[str] = []
        self.away = False

    def review(self, token, audience):
        assert audience == "tickwatch"
        self.asked.append(token)
        if self.away:
            raise ClusterUnavailableError("reviewing a token", "no answer")
        return self.users.get(token)


def token(name="a", expires=NOW + 3600, audience=("tickwatch",), **claims) -> str:
    """Return a token with these claims, as Kubernetes writes them; nobody has signed it."""
    claims = {"aud": list(audience), "exp": expires, "sub": name, **claims}
    return ".".join([part({"alg": "RS256"}), part(claims), "c2lnbmVk"])


def part(claims: object) -> str:
    """Return a part of such a token."""
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


READER, ADMIN, OTHER = token("reader"), token("admin"), token("other")
USERS = {
    READER: "system:serviceaccount:monitoring:dashboard",
    ADMIN: "system:serviceaccount:ops:tickwatch-admin",
    OTHER: "system:serviceaccount:shop:web",
}


class Verifying:
    """A verifier with all that it is made of."""

    def __init__(self, **options) -> None:
        self.clock = ManualClock(NOW)
        self.reviewer = ScriptedReviewer(dict(USERS))
        self.tokens = ServiceAccountTokens(
            self.reviewer,
            "tickwatch",
            **{"readers": ["monitoring/*"], "admins": ["ops/tickwatch-*"], "clock": self.clock, **options},
        )

    @property
    def asked(self) -> int:
        """How often the API server was asked."""
        return len(self.reviewer.asked)


def test_an_account_has_the_role_of_its_name():
    """Globs of NAMESPACE/NAME decide; an account in none of them is known and may do nothing."""
    tokens = Verifying().tokens

    assert tokens.verify(READER) == Caller("monitoring/dashboard", Role.READ)
    assert tokens.verify(ADMIN) == Caller("ops/tickwatch-admin", Role.ADMIN)
    assert tokens.verify(OTHER) == Caller("shop/web", None)
    assert tokens.verify(token("unknown")) is None


def test_who_is_in_both_lists_is_admin():
    """The larger role counts."""
    made = Verifying(readers=["*/*"], admins=["monitoring/dashboard"])

    assert made.tokens.verify(READER).role is Role.ADMIN


@pytest.mark.parametrize(
    "user", ["anna@example.com", "system:node:node1", "system:serviceaccount:", "", "monitoring:dashboard"]
)
def test_only_service_accounts_are_taken(user):
    """A user of another kind is nobody, however his token was verified."""
    made = Verifying(readers=["*/*"])
    made.reviewer.users[READER] = user

    assert made.tokens.verify(READER) is None


def test_an_answer_holds_for_a_minute_at_most():
    """Within a minute the API server is asked once, after it again: an account deleted meanwhile is refused then."""
    made = Verifying()
    assert made.tokens.verify(READER) == made.tokens.verify(READER) == Caller("monitoring/dashboard", Role.READ)
    assert made.asked == 1

    made.reviewer.users.clear()
    made.clock.advance(CACHE_SECONDS - 0.01)
    assert made.tokens.verify(READER)
    made.clock.advance(0.01)
    assert made.tokens.verify(READER) is None
    assert made.asked == 2
    assert CACHE_SECONDS <= 60


def test_an_answer_never_outlives_its_token():
    """A token that ends in ten seconds is refused then, by any clock, though the answer would hold for a minute."""
    soon = token("soon", expires=NOW + 10)
    for pass_time in (ManualClock.advance, lambda clock, seconds: clock.set(NOW + seconds)):
        made = Verifying()
        made.reviewer.users[soon] = USERS[READER]
        assert made.tokens.verify(soon)
        pass_time(made.clock, 10)
        assert made.tokens.verify(soon) is None
        assert made.asked == 1


def test_a_clock_set_back_keeps_nothing_longer():
    """Ages are told by time that passes, not by the time of day."""
    made = Verifying()
    assert made.tokens.verify(READER)
    made.clock.set(NOW - 3600)
    made.clock.advance(CACHE_SECONDS)
    assert made.tokens.verify(READER)
    assert made.asked == 2


def test_a_refusal_holds_for_a_moment():
    """An unknown token is asked about once in ten seconds, so that an account made meanwhile is known soon."""
    made, early = Verifying(), token("early")
    assert made.tokens.verify(early) is made.tokens.verify(early) is None
    assert made.asked == 1

    made.reviewer.users[early] = USERS[READER]
    made.clock.advance(REFUSAL_SECONDS)
    assert made.tokens.verify(early) == Caller("monitoring/dashboard", Role.READ)
    assert made.asked == 2


def test_invented_tokens_push_out_no_good_answer():
    """However many unknown tokens come, what is kept stays bounded, and a known caller's answer stays kept."""
    made = Verifying(most_kept=10)
    assert made.tokens.verify(READER)
    for number in range(50):
        assert made.tokens.verify(token(f"invented-{number}")) is None
    asked = made.asked
    assert made.tokens.verify(READER)

    assert made.asked == asked
    assert len(made.tokens._refused) == 10
    assert READER not in str(made.tokens.__dict__)


HOPELESS = {
    "no token of three parts": "x" * 64,
    "empty": "",
    "not ASCII": "ä.ö.ü",
    "surrogates": "\udcff.\udcff.\udcff",
    "not base64": "a.!.c",
    "not JSON": "a.eA.c",
    "a list": f"a.{part([1])}.c",
    "deeply nested": f"a.{base64.urlsafe_b64encode(b'[' * 6000).decode().rstrip('=')}.c",
    "without an end": f"a.{part({'aud': ['tickwatch']})}.c",
    "an end that is no number": token(expires="soon"),
    "an end that is none": token(expires=float("nan")),
    "past its end": token(expires=NOW),
    "for others": token(audience=["api"]),
    "for nobody": token(audience=[]),
    "an audience that is no name": f"a.{part({'aud': 7, 'exp': NOW + 60})}.c",
    "very long": token(padding="x" * 20_000),
}


@pytest.mark.parametrize("hopeless", HOPELESS.values(), ids=HOPELESS)
def test_what_cannot_be_right_is_refused_at_home(hopeless):
    """A token that by its own words is not for us or over, or is none, never costs the API server a question."""
    made = Verifying()

    assert made.tokens.verify(hopeless) is None
    assert made.asked == 0


def test_an_audience_may_stand_alone():
    """RFC 7519 lets a single audience be a name instead of a list of one."""
    made, alone = Verifying(), f"a.{part({'aud': 'tickwatch', 'exp': NOW + 60})}.c"
    made.reviewer.users[alone] = USERS[READER]

    assert made.tokens.verify(alone)


def test_without_the_api_server_nobody_new_comes_in(caplog):
    """Whoever is known goes on until his answer is over; others are told that nobody knows, which is not kept."""
    caplog.set_level(logging.DEBUG)
    made = Verifying()
    assert made.tokens.verify(READER)
    made.reviewer.away = True
    assert made.tokens.verify(READER)
    for _ in range(2):
        with pytest.raises(IdentityUnavailableError):
            made.tokens.verify(ADMIN)
    assert made.asked == 3
    made.reviewer.away = False
    assert made.tokens.verify(ADMIN)

    assert ADMIN not in caplog.text
    assert "no answer" in caplog.text


class SlowReviewer(ScriptedReviewer):
    """Answers when it is let."""

    def __init__(self, users: dict[str, str]) -> None:
        super().__init__(users)
        self.let = threading.Event()

    def review(self, token, audience):
        answer = super().review(token, audience)
        assert self.let.wait(60)
        return answer


@pytest.fixture
def slow():
    """A verifier whose API server takes its time, and a pool of callers."""
    made = Verifying()
    made.reviewer = SlowReviewer(dict(USERS))
    made.tokens._reviewer = made.reviewer
    with ThreadPoolExecutor(16) as callers:
        yield made, callers
        made.reviewer.let.set()


def test_calls_with_one_new_token_share_a_question(slow):
    """Callers who come together with a token wait for the answer that the first of them has asked for."""
    made, callers = slow
    answers = [callers.submit(made.tokens.verify, READER) for _ in range(16)]
    until(lambda: made.asked, bool)
    made.reviewer.let.set()

    assert [answer.result(60) for answer in answers] == [Caller("monitoring/dashboard", Role.READ)] * 16
    assert made.asked == 1


def test_a_flood_of_invented_tokens_holds_up_nobody_who_is_known(slow):
    """While as many tokens are asked about as may be at once, a new one is refused at once and a kept one taken."""
    made, callers = slow
    made.reviewer.let.set()
    assert made.tokens.verify(READER)
    made.reviewer.let.clear()
    flood = [callers.submit(made.tokens.verify, token(f"invented-{number}")) for number in range(MOST_REVIEWS)]
    until(lambda: made.asked, lambda count: count == 1 + MOST_REVIEWS)

    with pytest.raises(IdentityUnavailableError, match="too many"):
        made.tokens.verify(ADMIN)
    assert made.tokens.verify(READER)
    made.reviewer.let.set()
    assert [one.result(60) for one in flood] == [None] * MOST_REVIEWS
    assert made.tokens.verify(ADMIN)
