"""A release that asks who calls, on a real cluster: certificates on both sides, tokens that the API server verifies.

Its pods, probes, gateway and own test work as without; strangers get nothing, readers change nothing.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
import tickwatch

from tests.support.certificates import new_token
from tests.support.release import NAME, SELECTOR, eventually
from tests.support.secured_release import SecuredRelease

CALL_SECONDS = 30.0
"""A busy machine may be slow; what counts is the answer."""


@pytest.fixture(scope="module")
def release(secured_release: SecuredRelease) -> Iterator[SecuredRelease]:
    """Wait until the release with everything on is ready; afterwards it leaves nothing in the cluster at large."""
    try:
        secured_release.installed()
        yield secured_release
        commands = secured_release.commands
        commands.run("helm", "uninstall", NAME)
        bindings = commands.get("clusterrolebindings", "-l", SELECTOR)
        assert [one for one in bindings if one["subjects"][0]["namespace"] == commands.namespace] == []
    finally:
        secured_release.close()


def ask(
    release: SecuredRelease, credentials: tickwatch.Credentials, call: Callable[[tickwatch.Client], Awaitable[object]]
) -> object:
    """Ask the query service from outside the cluster."""

    async def asked(address: str) -> object:
        async with tickwatch.Client(address, credentials=credentials, timeout_seconds=CALL_SECONDS) as client:
            return await call(client)

    with release.commands.forwarded(f"{NAME}-query", 50051) as address:
        return asyncio.run(asked(address.replace("127.0.0.1", "localhost")))


def silence(release: SecuredRelease, credentials: tickwatch.Credentials) -> tickwatch.Silence:
    """Ask the alerter from outside the cluster for what only admins may: a silence."""

    async def asked(address: str) -> tickwatch.Silence:
        async with tickwatch.AlertClient(address, credentials=credentials, timeout_seconds=CALL_SECONDS) as client:
            return await client.create_silence(dt.timedelta(minutes=1), rules=["nobody-*"], comment="a test")

    with release.commands.forwarded(f"{NAME}-alerter", 50052) as address:
        return asyncio.run(asked(address.replace("127.0.0.1", "localhost")))


async def names(client: tickwatch.Client) -> list[str]:
    """Return the metrics' names."""
    return [metric.name async for metric in client.list_metrics()]


def test_its_own_test_passes(release):
    """`helm test` asks everything, with a certificate and with the token that the kubelet writes for its pod."""
    printed = release.installed()
    assert "PASSED" in printed
    assert "FAILED" not in printed


def test_readers_read(release):
    """A named service account reads by its token, as does a static token; one that is not named is told so."""
    for token in (release.token("reader"), release.static_token):
        assert "SIM:BTCUSD" in ask(release, release.shown(token), names)

    with pytest.raises(tickwatch.PermissionDeniedError, match=f"{release.commands.namespace}/stranger"):
        ask(release, release.shown(release.token("stranger")), names)


def test_strangers_are_refused(release):
    """Without a token, or with one for others, nobody is answered; nor without a certificate, or without TLS."""
    for token in (None, release.token("reader", "elsewhere.example"), new_token()):
        with pytest.raises(tickwatch.UnauthenticatedError):
            ask(release, release.shown(token), names)
    reader = release.token("reader")
    with pytest.raises(tickwatch.UnavailableError):
        ask(release, release.shown(reader, certificate=False), names)
    with pytest.raises(tickwatch.UnavailableError):
        ask(release, tickwatch.Credentials(tls=False, token=reader), names)


def test_readers_change_nothing(release):
    """A silence is made by an admin, and refused to a reader."""
    with pytest.raises(tickwatch.PermissionDeniedError, match="admin"):
        silence(release, release.shown(release.token("reader")))

    assert silence(release, release.shown(release.token("on-call"))).comment == "a test"


def test_whoever_verifies_tokens_may(release):
    """Query and alerter may have tokens reviewed and no more; the identity of gateway and test may not even that."""
    for identity, verb, what, expected in (
        (f"{NAME}-query", "create", "tokenreviews.authentication.k8s.io", "yes"),
        (f"{NAME}-alerter", "create", "tokenreviews.authentication.k8s.io", "yes"),
        (f"{NAME}-query", "get", "secrets/tokens", "no"),
        (f"{NAME}-query", "update", f"leases/{NAME}-alerter", "no"),
        (NAME, "create", "tokenreviews.authentication.k8s.io", "no"),
        (f"{NAME}-collector", "create", "tokenreviews.authentication.k8s.io", "no"),
    ):
        subject = f"--as=system:serviceaccount:{release.commands.namespace}:{identity}"
        answer = release.commands.shell(f"kubectl auth can-i {verb} {what} {subject} || true").strip()
        assert answer.splitlines()[-1] == expected, f"{identity} {verb} {what}"


def test_the_release_tells_no_secret(release):
    """Neither `helm get` nor the ConfigMaps have a key or a token in them."""
    told = release.commands.run("helm", "get", "all", NAME)
    told += release.commands.kubectl("get", "configmaps", "-o", "yaml")

    assert "existingSecret: tokens" in told
    assert "PRIVATE KEY" not in told
    assert release.static_token not in told


@asynccontextmanager
async def first_event(http: httpx.AsyncClient, headers: dict[str, str]) -> AsyncIterator[dict[str, object]]:
    """Give the first breach of the stream of breaches."""
    async with http.stream("GET", "/v1/breaches/stream", headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        kind = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif kind == "breach" and line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))
                return
    raise AssertionError("the stream ended")


def test_the_gateway_hands_tokens_on(release):
    """Over its Service: the page for everybody, data for whoever brings a token that the services take, events too."""
    reader = {"Authorization": f"Bearer {release.token('reader')}"}
    stranger = {"Authorization": f"Bearer {release.token('stranger')}"}

    async def asked(address: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=90) as http:
            page = await http.get("/")
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert (await http.get("/v1/metrics")).status_code == 401
            assert (await http.get("/v1/metrics", headers=stranger)).status_code == 403
            listed = (await http.get("/v1/metrics", headers=reader)).json()["metrics"]
            assert {"SIM:BTCUSD", "SIM:ETHUSD", "SIM:XRPUSD"} == {metric["name"] for metric in listed}
            ranking = (await http.get("/v1/rankings/price", headers=reader)).json()
            assert len(ranking["rankings"]) + len(ranking["unranked"]) == 3
            assert (await http.get("/v1/breaches/stream")).status_code == 401
            async with asyncio.timeout(120), first_event(http, reader) as breach:
                assert (breach["rule"], breach["measure"]) == ("any-price", "price")

    with release.commands.forwarded(f"{NAME}-gateway", 8080) as address:
        asyncio.run(asked(address))


def test_a_gateway_may_read_for_everybody(release):
    """With `gateway.anonymous` it shows a token of its own for those who have none, and the page has data."""
    release.commands.run("helm", "upgrade", NAME, "charts/tickwatch", "--reuse-values", "--set=gateway.anonymous=true")
    release.commands.kubectl("rollout", "status", f"deployment/{NAME}-gateway", "--timeout=180s")

    def listed() -> list[str] | None:
        with release.commands.forwarded(f"{NAME}-gateway", 8080) as address:
            answer = httpx.get(f"http://{address}/v1/metrics", timeout=CALL_SECONDS)
        return [metric["name"] for metric in answer.json()["metrics"]] if answer.status_code == 200 else None

    assert "SIM:BTCUSD" in eventually("the gateway's own token", listed, within=60)
