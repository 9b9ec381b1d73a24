"""The services behind the gateway, as the published client knows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import tickwatch


@dataclass(frozen=True, slots=True)
class Upstream:
    """A client of each service."""

    query: tickwatch.Client
    alerts: tickwatch.AlertClient

    def asked_with(self, _authorization: str) -> Upstream:
        """Return the same services, asked with these credentials."""
        return self


@asynccontextmanager
async def open_upstream(
    query: str, alerts: str, credentials: tickwatch.Credentials | None = None
) -> AsyncIterator[Upstream]:
    """Connect to the services at these targets, as who the credentials say; nothing is called until somebody asks."""
    async with AsyncExitStack() as stack:
        yield Upstream(
            await stack.enter_async_context(tickwatch.Client(query, credentials=credentials)),
            await stack.enter_async_context(tickwatch.AlertClient(alerts, credentials=credentials)),
        )
