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
async def open_upstream(query: str, alerts: str) -> AsyncIterator[Upstream]:
    """Connect to the services at these targets; nothing is called until somebody asks."""
    async with AsyncExitStack() as stack:
        yield Upstream(
            await stack.enter_async_context(tickwatch.Client(query)),
            await stack.enter_async_context(tickwatch.AlertClient(alerts)),
        )
