"""What people import is a promise: names, arguments, and channel settings that fit the servers."""

from __future__ import annotations

import inspect
import json
import pathlib
import re
import sys
from collections.abc import Callable

import grpc
import pytest
import tickwatch
from tickwatch import AlertClient, Client, channels, watching
from tickwatch.v1 import alert_pb2, query_pb2

from services.alerter.servicer import SERVICE as ALERT_SERVICE
from services.core.rpc.server import LEAST_PING_INTERVAL_SECONDS, server_options
from services.core.streaming import WatchTimes
from services.query.servicer import SERVICE as QUERY_SERVICE

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_public_names() -> None:
    """These names, sorted, and nothing else, are the package's promise."""
    assert tickwatch.__all__ == [
        "AlertClient",
        "Bookmark",
        "BreachPage",
        "Client",
        "Credentials",
        "CursorExpiredError",
        "DeadLetter",
        "DeadlineExceededError",
        "Episode",
        "Error",
        "Event",
        "Explanation",
        "Frozen",
        "History",
        "InvalidInputError",
        "MeasureSummary",
        "Metric",
        "MetricNotFoundError",
        "Missing",
        "NotFoundError",
        "PermissionDeniedError",
        "PointBatch",
        "Ranking",
        "Rankings",
        "Ratio",
        "Rule",
        "RuleNotFoundError",
        "RuleStatus",
        "RuleTest",
        "Rules",
        "Selector",
        "Silence",
        "Snapshot",
        "Threshold",
        "TimeRange",
        "UnauthenticatedError",
        "UnavailableError",
    ]
    assert all(hasattr(tickwatch, name) for name in tickwatch.__all__)
    assert (pathlib.Path(tickwatch.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Client.list_metrics, ["exchange"]),
        (Client.get_history, ["metric", "measure", "start", "end", "interval", "aggregation"]),
        (Client.rank_metrics, ["measure", "statistic", "window", "limit"]),
        (Client.watch_points, ["metrics", "measures", "cursor", "bookmarks", "on_retry"]),
        (Client.on_behalf, ["token"]),
        (Client.close, []),
        (
            AlertClient.watch_breaches,
            [
                "rules",
                "metrics",
                "min_severity",
                "delivery",
                "include_late",
                "cursor",
                "bookmarks",
                "on_retry",
            ],
        ),
        (AlertClient.list_breaches, ["rules", "metrics", "min_severity", "delivery", "start", "end"]),
        (
            AlertClient.list_breaches_page,
            ["rules", "metrics", "min_severity", "delivery", "start", "end", "page_size", "page_token"],
        ),
        (AlertClient.list_rules, []),
        (AlertClient.test_rule, ["rule", "start", "end", "max_events"]),
        (AlertClient.explain, ["rule", "metric", "measure", "time"]),
        (AlertClient.create_silence, ["length", "rules", "selector", "comment"]),
        (AlertClient.expire_silence, ["silence_id"]),
        (AlertClient.list_dead_letters, []),
        (AlertClient.resend_dead_letters, ["ids"]),
        (AlertClient.close, []),
    ],
)
def test_public_arguments(method: Callable[..., object], parameters: list[str]) -> None:
    """The arguments' names and order are part of the promise."""
    assert list(inspect.signature(method).parameters)[1:] == parameters


def test_every_call_of_the_contract_has_a_method() -> None:
    """A call added to the contract has to be given to callers of the package too."""
    calls = {
        Client: query_pb2.DESCRIPTOR.services_by_name["QueryService"],
        AlertClient: alert_pb2.DESCRIPTOR.services_by_name["AlertService"],
    }
    other_names = {"ExplainSeries": "explain"}
    for client, service in calls.items():
        names = {
            other_names.get(call.name, re.sub(r"(?<!^)([A-Z])", r"_\1", call.name).lower()) for call in service.methods
        }

        assert names <= {name for name in dir(client) if not name.startswith("_")}


def test_both_clients_are_set_up_alike() -> None:
    """Address, deadline, credentials and channel arguments mean the same for either service."""
    both = [list(inspect.signature(client).parameters) for client in (Client, AlertClient)]

    assert both[0] == both[1] == ["target", "timeout_seconds", "credentials", "options"]


def test_the_client_pings_more_slowly_than_servers_allow() -> None:
    """Keepalive is a pair: a client that pings as often as the limit is sent away sooner or later."""
    options = dict(server_options(longest_stream_seconds=1, reuse_port=False))

    assert options["grpc.http2.min_ping_interval_without_data_ms"] == LEAST_PING_INTERVAL_SECONDS * 1000
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert channels.KEEPALIVE_SECONDS >= 2 * LEAST_PING_INTERVAL_SECONDS


def test_connections_outlive_streams() -> None:
    """A stream may run to its own end after its connection has taken its last call: the grace exceeds its age."""
    longest = WatchTimes().longest_seconds * 1.1
    options = dict(server_options(longest_stream_seconds=longest, reuse_port=False))

    assert options["grpc.max_connection_age_grace_ms"] > longest * 1000
    assert 300_000 <= options["grpc.max_connection_age_ms"] <= 600_000


@pytest.mark.parametrize(
    ("service", "name", "method", "retried"),
    [
        (channels.QUERY, QUERY_SERVICE, "WatchPoints", ["UNAVAILABLE", "CANCELLED"]),
        (channels.ALERT, ALERT_SERVICE, "WatchBreaches", ["UNAVAILABLE"]),
    ],
)
def test_retries_change_nothing_twice(service: channels.Service, name: str, method: str, retried: list[str]) -> None:
    """Retried is what AIP-194 says, of mere reads also what a stopping server cancels, and never a stream.

    Calls go round-robin to healthy servers.
    """
    config = json.loads(json.dumps(channels.service_config(service)))

    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": name}
    unary, stream = config["methodConfig"]
    assert unary["retryPolicy"]["retryableStatusCodes"] == retried
    assert unary["retryPolicy"]["maxAttempts"] <= 5
    assert stream["name"] == [{"service": name, "method": method}]
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

    assert imports - {"tickwatch", "grpc", "google", "numpy"} <= sys.stdlib_module_names
