"""How often one client may ask: a bucket of requests for each, filled at a steady rate.

A client is an address, of IPv6 the network of 64 bits that one household has. The gateway only counts; what a client
may see is the services' to decide.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from services.core.errors import TooManyRequestsError

MOST_CLIENTS = 10_000
"""Beyond these the one that has been quiet for longest is forgotten: its bucket is the fullest."""

PROBES = frozenset({"/healthz", "/readyz"})
"""What orchestrators ask: never refused, never kept."""


class RateLimit:
    """A bucket for each client, holding `burst` requests and regaining `requests_per_second`."""

    def __init__(self, requests_per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests_per_second = requests_per_second
        self._burst = float(max(1, burst))
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Take a request from a client's bucket; return 0, or in how many seconds there will be one."""
        now = self._clock()
        level, at = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self.requests_per_second)
        missing = 1.0 - level
        self._buckets[client] = (level if missing > 0 else level - 1.0, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return max(0.0, missing / self.requests_per_second)


class LimitLayer:
    """Refuses the requests that are too many."""

    def __init__(self, app: ASGIApp, limit: RateLimit, on_refusal: Callable[[], object]) -> None:
        self._app = app
        self._limit = limit
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; raises TooManyRequestsError for one too many."""
        if scope["path"] not in PROBES and (wait := self._limit.take(client_of(scope))) > 0:
            self._on_refusal()
            raise TooManyRequestsError(self._limit.requests_per_second, wait)
        await self._app(scope, receive, send)


def client_of(scope: Scope) -> str:
    """Return whose bucket a request is taken from."""
    address = str((scope.get("client") or ("",))[0])
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
