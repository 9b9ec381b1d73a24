"""The gateway before protected services: it shows them the token of who asks it, and else its own credentials."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import tickwatch

from services.core.identity.static import FileTokens
from services.core.rpc.access import Access, Protection
from services.core.store.base import MetricStore
from services.gateway.server import GatewayServer, open_gateway
from tests.support import alerter
from tests.support.certificates import Authority, new_token, replace, tokens_text
from tests.support.guarded import localhost, tls_files
from tests.support.query import make_market, make_store, serve


@contextlib.asynccontextmanager
async def in_front_of(
    store: MetricStore, protection: Protection, authority: Authority, **options: Any
) -> AsyncIterator[GatewayServer]:
    """Serve a gateway that has no token of its own, before protected services of the store."""
    async with (
        serve(store, protection=protection) as service,
        alerter.serve(store, protection=protection) as alerts,
        open_gateway(
            listen="127.0.0.1:0",
            query=service.server.address,
            alerts=alerts.server.address,
            credentials=tickwatch.Credentials(ca=authority.ca),
            **options,
        ) as gateway,
    ):
        yield gateway


async def test_the_gateway_comes_in_with_its_own_token(tmp_path):
    """With a token and the authority it answers over protected services; without a token it is told that it is none."""
    authority, token = Authority(tmp_path / "authority"), new_token()
    replace(tmp_path / "tokens.yaml", tokens_text(("gateway", "read", token)))
    replace(tmp_path / "token", token)
    protection = Protection(tls=tls_files(localhost(authority)), access=Access(FileTokens(tmp_path / "tokens.yaml")))
    store = make_store(make_market(["SIM:AAA"]))
    alerter.LogWriter(store.breach_log)

    async def ask(service, alerts, **shown):
        opened = open_gateway(
            listen="127.0.0.1:0",
            query=service.server.address,
            alerts=alerts.server.address,
            credentials=tickwatch.Credentials(ca=authority.ca, **shown),
        )
        async with asyncio.timeout(60), opened as gateway, httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
            return [(await http.get(path)).status_code for path in ("/v1/metrics", "/v1/breaches")]

    async with serve(store, protection=protection) as service, alerter.serve(store, protection=protection) as alerts:
        admitted = await ask(service, alerts, token_file=tmp_path / "token")
        refused = await ask(service, alerts)

    assert admitted == [200, 200]
    assert refused == [401, 401]


async def test_callers_are_who_they_say(tmp_path):
    """A caller's bearer token goes to the services instead of the gateway's; what one may see no other is ever told."""
    authority = Authority(tmp_path / "authority")
    reader, stranger = new_token(), new_token()
    replace(tmp_path / "tokens.yaml", tokens_text(("reader", "read", reader)))
    protection = Protection(tls=tls_files(localhost(authority)), access=Access(FileTokens(tmp_path / "tokens.yaml")))
    store = make_store(make_market(["SIM:AAA"]))
    alerter.LogWriter(store.breach_log)
    paths = ("/v1/metrics", "/v1/breaches", "/v1/points/stream", "/v1/breaches/stream")

    async def ask(http, **headers):
        statuses = []
        for path in paths:
            async with http.stream("GET", path, headers=headers) as answer:
                statuses.append(answer.status_code)
                if answer.status_code != 200:
                    await answer.aread()
                    assert answer.headers["www-authenticate"] == "Bearer"
        return statuses

    async with (
        asyncio.timeout(60),
        in_front_of(store, protection, authority, kept_seconds=3600.0) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
    ):
        known = await ask(http, Authorization=f"Bearer {reader}")
        others = [
            await ask(http),
            await ask(http, Authorization=f"Bearer {stranger}"),
            await ask(http, Authorization="Bearer"),
            await ask(http, Authorization=f"Basic {reader}"),
        ]
        again = await ask(http, Authorization=f"bearer {reader}")

    assert known == again == [200] * 4
    assert others == [[401] * 4] * 4


async def test_what_a_caller_may_not_do_is_forbidden(tmp_path):
    """403 names the caller, the method and the role that lacks; who may read goes on reading."""
    authority, reader = Authority(tmp_path / "authority"), new_token()
    replace(tmp_path / "tokens.yaml", tokens_text(("reader", "read", reader)))
    protection = Protection(tls=tls_files(localhost(authority)), access=Access(FileTokens(tmp_path / "tokens.yaml")))
    store = make_store(make_market(["SIM:AAA"]))
    alerter.LogWriter(store.breach_log)
    shown = {"Authorization": f"Bearer {reader}"}
    async with (
        asyncio.timeout(60),
        in_front_of(store, protection, authority) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20, headers=shown) as http,
    ):
        read = await http.get("/v1/rules")
        forbidden = await http.post("/v1/silences", json={"duration": "1h"})
    (details,) = forbidden.json()["error"]["details"]

    assert (read.status_code, forbidden.status_code) == (200, 403)
    assert (details["reason"], details["metadata"]["caller"]) == ("PERMISSION_DENIED", "reader")
    assert details["metadata"]["method"].endswith("CreateSilence")
