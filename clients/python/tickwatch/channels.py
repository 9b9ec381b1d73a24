"""How a channel to Tickwatch is set up: what every caller needs and few get right.

Keepalive stays slower than the servers' limit. Retries are the channel's own (service config), for UNAVAILABLE alone.
Calls go round-robin over all addresses of a name (`dns:///NAME:PORT`), and only to servers that say they serve. A plain
HOST:PORT is one address, such as a balancer's: there is no other to prefer, and a server that drains, which says it
does not serve, answers until it closes the connection; the next one then leads elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc


class Service(NamedTuple):
    """A service as channels know it."""

    name: str
    stream: str
    """The one method that streams."""
    retried: tuple[str, ...]
    """The status codes after which a call is made again."""


# A server that stops may cancel a call that has just reached it: whoever only reads asks again.
QUERY = Service("tickwatch.v1.QueryService", "WatchPoints", ("UNAVAILABLE", "CANCELLED"))
ALERT = Service("tickwatch.v1.AlertService", "WatchBreaches", ("UNAVAILABLE",))

KEEPALIVE_SECONDS = 30
"""Servers allow a ping every 10 s; a margin of three survives a late server and an early client."""

RESOLVE_SECONDS = 5
"""How soon a name is looked up again when one of its addresses has gone."""


def service_config(service: Service, *, health: bool = True) -> dict[str, Any]:
    """Return a channel's service config (https://github.com/grpc/grpc/blob/master/doc/service_config.md).

    `health` keeps calls from servers whose health says that they do not serve.
    """
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        **({"healthCheckConfig": {"serviceName": service.name}} if health else {}),
        "methodConfig": [
            {
                "name": [{"service": service.name}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": service.retried,
                },
            },
            # A watch resumes by itself, with a cursor; a retry below it would only hide for how long it was broken.
            {"name": [{"service": service.name, "method": service.stream}]},
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }


_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024

_COMMON: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Replicas may all be replaced within the half minute for which gRPC would not look the name up again.
    ("grpc.dns_min_time_between_resolutions_ms", RESOLVE_SECONDS * 1000),
    ("grpc.max_receive_message_length", _LARGEST_ANSWER_BYTES),
)

# Without these a server runs thousands of messages ahead of a reader that has stopped, and the reader, when it goes on,
# reads minutes-old news before it learns that it was too slow.
_STREAMING: tuple[tuple[str, int | str], ...] = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16_384),
)

Options = Sequence[tuple[str, int | str]]


def open_channel(
    service: Service,
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Options,
    *,
    streaming: bool = False,
) -> grpc.aio.Channel:
    """Open a channel to a service; `options` come last and win."""
    several = "/" in target or "," in target
    config = ("grpc.service_config", json.dumps(service_config(service, health=several)))
    merged = dict((config, *_COMMON, *(_STREAMING if streaming else ()), *options))
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=tuple(merged.items()))
    return grpc.aio.secure_channel(target, credentials, options=tuple(merged.items()))
