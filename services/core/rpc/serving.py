"""How a role serves gRPC: what the settings decide of its server, said once for all roles.

It knows no service and opens nothing; `server` does.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from services.core.broadcasting import QUEUE_BATCHES
from services.core.rpc.access import OPEN, Protection
from services.core.rpc.interceptors import StreamLimit
from services.core.rpc.paging import PageTokens
from services.core.streaming import WatchTimes


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Where and how a role answers; the defaults are those of a test or an experiment on one machine."""

    listen: str
    """HOST:PORT; port 0 leaves it to the machine."""
    role: str = ""
    """The role's section of the settings, by which an error names where it listens; empty: it has none."""
    max_workers: int = 8
    """How many unary calls are answered at once."""
    max_streams: int = 1024
    """How many streams may be open."""
    queue_batches: int = QUEUE_BATCHES
    """How many polls with news a stream may fall behind."""
    watch_times: WatchTimes = field(default_factory=WatchTimes)
    drain_seconds: float = 0.0
    """How long calls are still taken after the health has turned, as long as balancers need to see it."""
    grace_seconds: float = 10.0
    """How long open calls may take to end."""
    reflection: bool = True
    reuse_port: bool = False
    """Whether several processes may listen on the same port."""
    protection: Protection = OPEN
    """Who may call, and how much; by default everybody may."""
    page_token_key: bytes | None = None
    """16 to 64 bytes, the same for all servers behind one name; without one, tokens are good for one process alone."""

    @property
    def longest_connection_seconds(self) -> float:
        """How long a stream may go on, jitter included, on a connection that is past its age."""
        return self.watch_times.longest_seconds * 1.1

    @property
    def store_permits(self) -> int:
        """How many calls may wait for the store at once: half of the workers, so that memory answers the others."""
        return max(1, self.max_workers // 2)

    def setting(self, name: str) -> str:
        """Return how a setting of the role is named in an error."""
        return f"{self.role}.{name}" if self.role else name

    def stream_limit(self) -> StreamLimit:
        """Return what counts the streams of one method."""
        return StreamLimit(self.max_streams, self.protection.max_streams_per_client)

    def page_tokens(self) -> PageTokens:
        """Return what issues and checks page tokens."""
        return PageTokens(self.page_token_key or secrets.token_bytes(32))
