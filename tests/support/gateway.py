"""A gateway on a real query and a real alert service, and an HTTP client on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx
from prometheus_client import CollectorRegistry

from services.core.store.memory import MemoryMetricStore
from services.gateway.server import GatewayServer, open_gateway
from tests.support import alerter, query


class Gateway(NamedTuple):
    """A running gateway, what is behind it, and a client of it."""

    server: GatewayServer
    http: httpx.AsyncClient
    query: query.Service
    alerts: alerter.AlertService
    registry: CollectorRegistry
    """The gateway's metrics."""
    behind: CollectorRegistry
    """The metrics of both services."""


@asynccontextmanager
async def serve(store: MemoryMetricStore, **options: Any) -> AsyncIterator[Gateway]:
    """Serve a store, its log evaluated up to `LAST`, by all three on free ports; options are the gateway's,
    but `markets`, whose series are expected.
    """
    async with AsyncExitStack() as stack:
        behind = CollectorRegistry()
        asked = await stack.enter_async_context(query.serve(store, registry=behind))
        alerter.LogWriter(store.breach_log)
        alerts = await stack.enter_async_context(
            alerter.serve(store, registry=behind, markets=options.pop("markets", ()))
        )
        registry = options.pop("registry", None) or CollectorRegistry()
        settings: dict[str, Any] = {
            "registry": registry,
            "listen": "127.0.0.1:0",
            "query": asked.server.address,
            "alerts": alerts.server.address,
            "grace_seconds": 2.0,
            **options,
        }
        server = await stack.enter_async_context(open_gateway(**settings))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=20))
        yield Gateway(server, http, asked, alerts, registry, behind)


class Happening(NamedTuple):
    """A server-sent event."""

    kind: str
    id: str | None
    """None where the event leaves the reader's Last-Event-ID as it was."""
    data: Any


class Reader:
    """A reader of one event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()
        self.last_id = ""
        self.comments = 0

    async def next(self, kind: str = "") -> Happening:
        """Return the next event, or the next of this kind; comments are counted. Fails where the stream has ended."""
        async with asyncio.timeout(20):
            while True:
                happening = await self._read()
                if kind in ("", happening.kind):
                    return happening

    async def ends(self) -> None:
        """Return when the stream ends; whatever still comes is dropped."""
        async with asyncio.timeout(20):
            async for _ in self._lines:
                pass

    async def _read(self) -> Happening:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name.rstrip(":")] = value
            elif "data" in fields:
                if "id" in fields:
                    self.last_id = fields["id"]
                return Happening(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"]))
            else:
                fields = {}
        raise AssertionError("the stream has ended")


@asynccontextmanager
async def reading(
    http: httpx.AsyncClient, address: str, last_event_id: str = "", **parameters: Any
) -> AsyncIterator[Reader]:
    """Read a stream while the context lasts; it has to be answered by 200."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with http.stream("GET", address, params=parameters, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Reader(response)


def reason(answer: httpx.Response) -> str:
    """Return why a request was refused; the answer has to be an error after AIP-193."""
    error = answer.json()["error"]
    assert set(error) == {"code", "status", "message", "details"}
    assert error["code"] == answer.status_code
    details = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}
    assert len(details) == len(error["details"])
    assert details["ErrorInfo"]["domain"] == "tickwatch"
    told: str = details["ErrorInfo"]["reason"]
    return told
