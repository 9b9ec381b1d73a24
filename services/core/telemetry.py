"""What a running Tickwatch tells its operators: the catalogue of its Prometheus metrics, and where they are scraped.

Names and meanings of what roles count stand here, so that a dashboard can be written from one file; calls to servers
are counted by `rpc.metrics`. It knows no role: roles hand it numbers, or functions that return them at the moment of a
scrape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.core.errors import InvalidSettingError

LATENCY_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds, in seconds, of the times of calls and requests."""


class QueryMetrics:
    """How the query service keeps up with its store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.window_series = Gauge("tickwatch_window_series", "Series in the hot window.", registry=registry)
        self.window_bytes = Gauge("tickwatch_window_bytes", "Memory of the hot window's rings.", registry=registry)
        self.follower_lag_seconds = Gauge(
            "tickwatch_follower_lag_seconds",
            "Time since the store was last read to its end. Growing: the store is out of reach or too slow.",
            registry=registry,
        )
        self.follower_errors = Counter(
            "tickwatch_follower_errors_total",
            "Polls of the store that failed, by what failed; CursorExpiredError means the window was read anew.",
            ("error",),
            registry=registry,
        )
        self.followed_points = Counter(
            "tickwatch_follower_points_total", "Points taken over from the store after the start.", registry=registry
        )
        self.dropped_subscribers = Counter(
            "tickwatch_watch_dropped_subscribers_total",
            "Watch streams ended because their reader was too slow.",
            registry=registry,
        )
        self.computed_answers = Counter(
            "tickwatch_answers_computed_total",
            "Unary answers that had to be made; all others of grpc_server_handled_total were bytes at hand.",
            registry=registry,
        )


class EvaluationMetrics:
    """How the evaluation of rules fares, in the one process that evaluates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leads = Gauge(
            "tickwatch_leader",
            "1 where this process evaluates and notifies, else 0. Of all replicas one has 1, and none for the "
            "seconds that it takes another to take over.",
            registry=registry,
        )
        self.behind_seconds = Gauge(
            "tickwatch_engine_behind_seconds",
            "Time since the end of the newest slot that this process has evaluated for every series.",
            registry=registry,
        )
        self.events = Counter(
            "tickwatch_events_total", "Events appended to the log of breaches.", ("rule", "kind"), registry=registry
        )
        self.late_points = Counter(
            "tickwatch_late_points_total",
            "Points that came after their slot had been evaluated, and were new or different.",
            registry=registry,
        )
        self.refused_points = Counter(
            "tickwatch_future_points_total",
            "Points refused because they lie in the future: a collector's clock is wrong.",
            registry=registry,
        )
        self.rules_loaded = Gauge(
            "tickwatch_rules_last_load_successful",
            "1 if the rules file was read without a problem when it last changed, else 0; the last good set holds.",
            registry=registry,
        )
        self.failures = Counter(
            "tickwatch_engine_failures_total", "Steps of the evaluation that failed.", registry=registry
        )


class AlertStreamMetrics:
    """How the alerter's streams keep up with the log of breaches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.behind_seconds = Gauge(
            "tickwatch_evaluation_behind_seconds",
            "Time since the end of the newest slot that every rule has been evaluated for, as the log says. Above 180: "
            "nobody evaluates, or the store is away.",
            registry=registry,
        )
        self.follower_lag_seconds = Gauge(
            "tickwatch_breach_follower_lag_seconds",
            "Time since the log of breaches was last read to its end. Growing: the store is out of reach or too slow.",
            registry=registry,
        )
        self.follower_errors = Counter(
            "tickwatch_breach_follower_errors_total",
            "Polls of the log of breaches that failed, by what failed.",
            ("error",),
            registry=registry,
        )
        self.followed_events = Counter(
            "tickwatch_breach_follower_events_total", "Events handed to the open streams.", registry=registry
        )
        self.dropped_subscribers = Counter(
            "tickwatch_breach_streams_dropped_total",
            "Streams of breaches ended because their reader was too slow.",
            registry=registry,
        )


class ResourceMetrics:
    """How many objects of a cluster are refused, at every replica alike."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Gauge(
            "tickwatch_refused_resources",
            "Markets and AlertRules that are not accepted now; their status and the log say why.",
            ("kind",),
            registry=registry,
        )


class NotifierMetrics:
    """How receivers of webhooks take what they are sent, in the one process that notifies."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.delivered = Counter(
            "tickwatch_notifications_delivered_total",
            "Events that a receiver has taken.",
            ("receiver",),
            registry=registry,
        )
        self.retried = Counter(
            "tickwatch_notifications_retried_total",
            "Requests that failed and are made again: no answer, 429 or 5xx.",
            ("receiver",),
            registry=registry,
        )
        self.dead = Counter(
            "tickwatch_notifications_dead_total",
            "Events given up: refused, or tried in vain for as long as the receiver is tried.",
            ("receiver",),
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "tickwatch_notification_lag_seconds",
            "Time since the minute in which the oldest event still owed to a receiver was found; 0 if none is.",
            ("receiver",),
            registry=registry,
        )
        self.dropped_letters = Counter(
            "tickwatch_dead_letters_dropped_total",
            "Dead letters deleted because there were too many.",
            registry=registry,
        )
        self.heartbeats = Counter(
            "tickwatch_heartbeats_total",
            "Signs of life that were due: sent, failed, or withheld because evaluation is behind.",
            ("outcome",),
            registry=registry,
        )


class GatewayMetrics:
    """How the gateway is used, and how it fares with the services behind it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "tickwatch_http_requests_total",
            "Requests answered, by address and HTTP status; a stream counts when it ends.",
            ("route", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "tickwatch_http_request_seconds",
            "Time from a request's begin to the end of its answer, streams left out.",
            ("route",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.event_streams = Gauge(
            "tickwatch_http_event_streams", "Event streams that are open; compare with the limit.", registry=registry
        )
        self.relays = Gauge(
            "tickwatch_gateway_relays", "Streams of the services that these event streams share.", registry=registry
        )
        self.refused_requests = Counter(
            "tickwatch_http_refused_requests_total",
            "Requests refused because their client asks too often.",
            registry=registry,
        )


Ages = Callable[[], Iterable[tuple[str, float]]]
"""Returns the age in seconds of something for every exchange."""


class FreshnessCollector(Collector):
    """How old every exchange's data are, computed when scraped."""

    def __init__(self, newest_point: Ages, last_run: Ages) -> None:
        self._families = (
            (
                "tickwatch_exchange_newest_point_age_seconds",
                "Time since the end of its newest point's slot.",
                newest_point,
            ),
            ("tickwatch_exchange_last_run_age_seconds", "Time since a run for it last finished.", last_run),
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield both families."""
        for name, meaning, ages in self._families:
            family = GaugeMetricFamily(name, meaning, labels=("exchange",))
            for exchange, seconds in ages():
                family.add_metric((exchange,), seconds)
            yield family


def parse_listen(listen: str, field: str) -> tuple[str, int]:
    """Split HOST:PORT, raising InvalidSettingError naming `field`; an IPv6 host stands in brackets."""
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - ports
        raise InvalidSettingError(
            field, f"{listen!r} is not an address to listen on", "HOST:PORT, as in 127.0.0.1:50051"
        )
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def serve_metrics(listen: str, registry: CollectorRegistry) -> Iterator[int]:
    """Answer scrapes over HTTP at HOST:PORT while the context lasts; yields the port, which 0 leaves to the machine.

    Raises InvalidSettingError where that address cannot be listened on.
    """
    host, port = parse_listen(listen, "metrics.listen")
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise InvalidSettingError(
            "metrics.listen", f"cannot listen on {listen}: {error.strerror}", "a free port"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
