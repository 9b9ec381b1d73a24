"""The gateway before protected services: it shows them its own credentials, whoever asks it."""

from __future__ import annotations

import asyncio

import httpx
import tickwatch

from services.core.identity.static import FileTokens
from services.core.rpc.access import Access, Protection
from services.gateway.server import open_gateway
from tests.support import alerter
from tests.support.certificates import Authority, new_token, replace, tokens_text
from tests.support.guarded import localhost, tls_files
from tests.support.query import make_market, make_store, serve


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
