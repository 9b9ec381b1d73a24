"""What people import is a promise: names, arguments, and channel settings that fit the servers."""

from __future__ import annotations

import inspect
import json
import pathlib
import re

import grpc
import pytest
import tickwatch
from tickwatch import channels, watching

from services.core.rpc.server import LEAST_PING_INTERVAL_SECONDS, server_options
from services.core.streaming import WatchTimes
from services.query.servicer import SERVICE

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_public_names() -> None:
    """These names, sorted, and nothing else, are the package's promise."""
    assert tickwatch.__all__ == [
        "Client",
        "CursorExpiredError",
        "DeadlineExceededError",
        "Error",
        "History",
        "InvalidInputError",
        "MeasureSummary",
        "Metric",
        "MetricNotFoundError",
        "PointBatch",
        "Ranking",
        "Rankings",
        "TimeRange",
        "UnavailableError",
    ]
    assert all(hasattr(tickwatch, name) for name in tickwatch.__all__)
    assert (pathlib.Path(tickwatch.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("list_metrics", ["exchange"]),
        ("get_history", ["metric", "measure", "start", "end", "interval", "aggregation"]),
        ("rank_metrics", ["measure", "statistic", "window", "limit"]),
        ("watch_points", ["metrics", "measures", "cursor", "bookmarks", "on_retry"]),
        ("close", []),
    ],
)
def test_public_arguments(method: str, parameters: list[str]) -> None:
    """The arguments' names and order are part of the promise."""
    assert list(inspect.signature(getattr(tickwatch.Client, method)).parameters)[1:] == parameters


def test_the_client_pings_more_slowly_than_servers_allow() -> None:
    """Keepalive is a pair: a client that pings as often as the limit is sent away sooner or later."""
    options = dict(server_options(longest_stream_seconds=1, reuse_port=False))

    assert options["grpc.http2.min_recv_ping_interval_without_data_ms"] == LEAST_PING_INTERVAL_SECONDS * 1000
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert channels.KEEPALIVE_SECONDS >= 2 * LEAST_PING_INTERVAL_SECONDS


def test_connections_outlive_streams() -> None:
    """A stream may run to its own end after its connection has taken its last call: the grace exceeds its age."""
    longest = WatchTimes().longest_seconds * 1.1
    options = dict(server_options(longest_stream_seconds=longest, reuse_port=False))

    assert options["grpc.max_connection_age_grace_ms"] > longest * 1000
    assert 300_000 <= options["grpc.max_connection_age_ms"] <= 600_000


def test_retries_are_for_unavailable_alone() -> None:
    """The service config retries what AIP-194 says and never a stream; calls go round-robin to healthy servers."""
    config = json.loads(json.dumps(channels.SERVICE_CONFIG))

    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": SERVICE}
    unary, stream = config["methodConfig"]
    assert unary["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert unary["retryPolicy"]["maxAttempts"] <= 5
    assert stream["name"] == [{"service": SERVICE, "method": "WatchPoints"}]
    assert "retryPolicy" not in stream


def test_every_status_is_either_retryable_or_terminal() -> None:
    """A watch knows of every status whether to go on."""
    both = {*watching.RETRYABLE, *watching.TERMINAL}

    assert both == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert not set(watching.RETRYABLE) & set(watching.TERMINAL)
    assert grpc.StatusCode.OUT_OF_RANGE in watching.TERMINAL


def test_the_client_needs_nothing_of_the_services() -> None:
    """Its modules import grpc, protobuf, google.rpc, numpy, the standard library and themselves."""
    folder = pathlib.Path(tickwatch.__file__).parent
    imports = {
        match[1]
        for path in folder.glob("*.py")
        for match in re.finditer(r"^(?:from|import) ([a-z_]+)", path.read_text(), re.MULTILINE)
    }

    assert imports - {"tickwatch", "grpc", "google", "numpy"} <= {
        "__future__",
        "asyncio",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "json",
        "random",
        "time",
        "types",
        "typing",
    }
