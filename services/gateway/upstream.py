"""The services behind the gateway, as the published client knows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import tickwatch

from services.core.errors import UnauthenticatedError


@dataclass(frozen=True, slots=True)
class Upstream:
    """A client of each service."""

    query: tickwatch.Client
    alerts: tickwatch.AlertClient

    def asked_with(self, authorization: str) -> Upstream:
        """Return the same services, asked with the bearer token of a caller who has one, else with the gateway's own.

        Any other kind of authorization is between the caller and a proxy before the gateway, and goes no further.
        """
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            return self
        token = token.strip()
        try:
            return Upstream(self.query.on_behalf(token), self.alerts.on_behalf(token))
        except tickwatch.InvalidInputError as error:
            raise UnauthenticatedError("the bearer token is none", "visible ASCII characters, and not empty") from error


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
