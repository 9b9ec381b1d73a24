"""A gateway on a real query and a real alert service, and an HTTP client on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx

from services.core.store.memory import MemoryMetricStore
from services.gateway.server import GatewayServer, open_gateway
from tests.support import alerter, query


class Gateway(NamedTuple):
    """A running gateway, what is behind it, and a client of it."""

    server: GatewayServer
    http: httpx.AsyncClient
    query: query.Service
    alerts: alerter.AlertService


@asynccontextmanager
async def serve(store: MemoryMetricStore, **options: Any) -> AsyncIterator[Gateway]:
    """Serve a store, its log evaluated up to `LAST`, by all three on free ports; options are the gateway's."""
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(query.serve(store))
        alerter.LogWriter(store.breach_log)
        alerts = await stack.enter_async_context(alerter.serve(store))
        settings: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "query": asked.server.address,
            "alerts": alerts.server.address,
            "grace_seconds": 2.0,
            **options,
        }
        server = await stack.enter_async_context(open_gateway(**settings))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=20))
        yield Gateway(server, http, asked, alerts)
