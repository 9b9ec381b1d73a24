"""Tokens of real service accounts, verified by a real API server, at a real query service."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import threading
from collections.abc import Iterator

import grpc
import pytest
import tickwatch

from services.core.catalog.cluster import Cluster
from services.core.clock import ManualClock, SystemClock
from services.core.identity.base import Caller, Role
from services.core.identity.cluster import CACHE_SECONDS, KubernetesTokenReviewer, ServiceAccountTokens
from services.core.rpc.access import Access, Protection
from tests.support.certificates import replace
from tests.support.cluster import kubectl
from tests.support.commands import until
from tests.support.guarded import call, every_method
from tests.support.needs import require_cluster
from tests.support.query import failure, make_market, make_store, serve

AUDIENCE = "tickwatch.example"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace with three accounts: a reader, an admin, and one that nobody has named."""
    require_cluster()
    name = f"security-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    try:
        for account in ("reader", "admin", "other"):
            kubectl("-n", name, "create", "serviceaccount", account)
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def cluster(namespace) -> Iterator[Cluster]:
    """The API server, as KUBECONFIG names it."""
    with Cluster(kubeconfig=os.environ["KUBECONFIG"], namespace=namespace) as connection:
        yield connection


def tokens_of(cluster: Cluster, clock=None, audience: str = AUDIENCE) -> ServiceAccountTokens:
    """Return a verifier that the API server answers."""
    return ServiceAccountTokens(
        KubernetesTokenReviewer(cluster),
        audience,
        readers=[f"{cluster.namespace}/reader"],
        admins=[f"{cluster.namespace}/adm*"],
        clock=clock,
    )


def token(namespace: str, account: str, *words: str, audience: str = AUDIENCE) -> str:
    """Have the API server issue a token as the kubelet does for a projected volume."""
    return kubectl("-n", namespace, "create", "token", account, "--audience", audience, *words).strip()


def claims(token: str) -> dict[str, object]:
    """Return what a token says."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def altered(token: str) -> str:
    """Return the token with another account's name in it, under the signature that it had."""
    head, _, signature = token.split(".")
    forged = json.dumps(claims(token) | {"sub": "system:serviceaccount:kube-system:admin"}).encode()
    return ".".join([head, base64.urlsafe_b64encode(forged).decode().rstrip("="), signature])


def test_our_audience_is_accepted(cluster, namespace):
    """A token for us is its account's, with the role that the account has here."""
    tokens = tokens_of(cluster)

    assert tokens.verify(token(namespace, "reader")) == Caller(f"{namespace}/reader", Role.READ)
    assert tokens.verify(token(namespace, "admin")) == Caller(f"{namespace}/admin", Role.ADMIN)
    assert tokens.verify(token(namespace, "other")) == Caller(f"{namespace}/other", None)


def test_another_audience_is_refused_by_the_api_server(cluster, namespace):
    """A token for others, the API server's own among them, is nobody's: by its words, and where it is asked of."""
    other, its_own = (
        token(namespace, "reader", audience="else.example"),
        kubectl("-n", namespace, "create", "token", "reader").strip(),
    )
    tokens, reviewer = tokens_of(cluster), KubernetesTokenReviewer(cluster)

    for refused in (other, its_own):
        assert tokens.verify(refused) is None
        assert reviewer.review(refused, AUDIENCE) is None
    assert reviewer.review(other, "else.example") == f"system:serviceaccount:{namespace}:reader"


def test_an_expired_token_is_refused(cluster, namespace):
    """At the end that the token states it is nobody's, whether or not it was kept a moment ago."""
    shown = token(namespace, "reader", "--duration", "600s")
    clock = ManualClock(SystemClock().now())
    tokens = tokens_of(cluster, clock)
    assert tokens.verify(shown)

    clock.set(float(claims(shown)["exp"]) - 1)
    assert tokens.verify(shown)
    clock.set(float(claims(shown)["exp"]))
    assert tokens.verify(shown) is None


def test_unknown_and_forged_tokens_are_refused(cluster, namespace):
    """The API server refuses what it has not signed, and what was altered after it had."""
    shown = token(namespace, "reader")
    head, payload, _ = shown.split(".")
    unsigned = f"{head}.{payload}.{base64.urlsafe_b64encode(b'x' * 256).decode().rstrip('=')}"

    tokens = tokens_of(cluster)

    assert tokens.verify(unsigned) is None
    assert tokens.verify(altered(shown)) is None
    assert tokens.verify(f"{head}.{payload}.") is None
    assert tokens.verify(shown)


def test_a_token_ends_with_what_it_is_bound_to(cluster, namespace):
    """When its secret or account has gone, a token is refused once no answer is kept: ours, or the API server's own."""
    kubectl("-n", namespace, "create", "secret", "generic", "binding")
    kubectl("-n", namespace, "create", "serviceaccount", "admittedly-short")
    bound = token(namespace, "reader", "--bound-object-kind", "Secret", "--bound-object-name", "binding")
    own = token(namespace, "admittedly-short")
    clock = ManualClock(SystemClock().now())
    tokens = tokens_of(cluster, clock)
    assert tokens.verify(bound)
    assert tokens.verify(own)

    kubectl("-n", namespace, "delete", "secret", "binding")
    kubectl("-n", namespace, "delete", "serviceaccount", "admittedly-short")
    assert tokens.verify(bound)
    for gone in (bound, own):

        def ask(shown=gone):
            threading.Event().wait(0.2)  # the API server's own time passes
            clock.advance(CACHE_SECONDS)
            return tokens.verify(shown)

        until(ask, lambda caller: caller is None)


async def test_a_service_admits_accounts_by_role(cluster, namespace, tmp_path):
    """The published client reads with a projected token, and with the one that replaces it; others are told why not."""
    file = tmp_path / "token"
    replace(file, token(namespace, "reader"))
    protection = Protection(access=Access(tokens_of(cluster)))
    async with serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service:
        shown = tickwatch.Credentials(token_file=file, tls=False)
        async with tickwatch.Client(service.server.address, credentials=shown, timeout_seconds=20) as client:
            assert len((await client.get_history("SIM:AAA", "price")).values) == 1440
            async with asyncio.timeout(20):
                assert (await anext(client.watch_points(bookmarks=True))).cursor
            replace(file, token(namespace, "admin"))
            assert len((await client.get_history("SIM:AAA", "price")).values) == 1440
            replace(file, token(namespace, "other"))
            with pytest.raises(tickwatch.PermissionDeniedError, match=f"{namespace}/other may not call"):
                await client.get_history("SIM:AAA", "price")
            replace(file, token(namespace, "reader", audience="else.example"))
            with pytest.raises(tickwatch.UnauthenticatedError, match="not for this service"):
                await client.get_history("SIM:AAA", "price")


async def test_only_admins_change_things(cluster, namespace):
    """A reader's token is refused where silences are made, an admin's is not."""
    path = "/tickwatch.v1.AlertService/CreateSilence"
    async with (
        every_method(Protection(access=Access(tokens_of(cluster)))) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        wrong = await failure(call(channel, path, f"Bearer {token(namespace, 'reader')}"))
        assert await call(channel, path, f"Bearer {token(namespace, 'admin')}") == 1

    assert wrong.code == "PERMISSION_DENIED"
