"""What a running Tickwatch tells its operators: logs, and the catalogue of its Prometheus metrics.

Every metric's name and meaning stands here, so that a dashboard can be written from one file. It knows no role: roles
hand it numbers, or functions that return them at the moment of a scrape.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from pythonjsonlogger.json import JsonFormatter

from services.core.errors import InvalidSettingError

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("console", "json")

_CONSOLE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_LATENCY_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def configure_logging(level: str = "info", format: str = "console") -> None:  # noqa: A002 - the setting's own name
    """Send the logs of the process to stderr, in place of any earlier configuration.

    `format` is `console` for people or `json` for machines: one object a line with `timestamp` (RFC 3339, UTC),
    `level`, `logger`, `message`, an exception as `exc_info`, and what the caller put in `extra`. Raises
    InvalidSettingError for another level or format.
    """
    if level not in LEVELS:
        raise InvalidSettingError("log.level", f"{level!r} is not a level", f"one of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise InvalidSettingError("log.format", f"{format!r} is not a format", f"one of {', '.join(FORMATS)}")
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        fields = {"levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter("%(levelname)s %(name)s %(message)s", rename_fields=fields, timestamp=True))
    else:
        handler.setFormatter(logging.Formatter(_CONSOLE))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


class _Ended:
    """The calls of one method that ended with one status code."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(_LATENCY_BUCKETS) + 1)
        self.seconds = 0.0


class CallTally:
    """The calls of one method, counted by hand: an answer from memory costs less than the library's counters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = 0
        self._open = 0
        self._ended = {"OK": _Ended()}

    def begin(self) -> None:
        """Count a call that begins."""
        with self._lock:
            self._started += 1

    def end(self, code: str, seconds: float) -> None:
        """Count a call that ended with a status code, by name, so many seconds after its begin."""
        place = bisect.bisect_left(_LATENCY_BUCKETS, seconds)
        with self._lock:
            ended = self._ended.get(code) or self._ended.setdefault(code, _Ended())
            ended.buckets[place] += 1
            ended.seconds += seconds

    def stream_opened(self, change: int) -> None:
        """Count streams being served: 1 more, or -1."""
        with self._lock:
            self._open += change

    def read(self) -> tuple[int, int, dict[str, tuple[list[tuple[str, int]], float]]]:
        """Return calls started, streams open, and by code the cumulative buckets by bound and the sum of times."""
        bounds = [*map(floatToGoString, _LATENCY_BUCKETS), "+Inf"]
        with self._lock:
            ended = {
                code: (list(zip(bounds, itertools.accumulate(of.buckets), strict=True)), of.seconds)
                for code, of in sorted(self._ended.items())
            }
            return self._started, self._open, ended


class RpcMetrics(Collector):
    """Calls to a server, under the names that dashboards for gRPC servers know.

    `grpc_type` is `unary`, `server_stream` or `bidi_stream`; only methods that the server has are labelled.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str], CallTally] = {}

    def tally(self, kind: str, service: str, method: str) -> CallTally:
        """Return the tally of one method."""
        return self._tallies.setdefault((kind, service, method), CallTally())

    def collect(self) -> Iterator[Metric]:
        """Yield the four families."""
        labels = ("grpc_type", "grpc_service", "grpc_method")
        started = CounterMetricFamily("grpc_server_started", "Calls begun: the load.", labels=labels)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls ended, by status code: the errors.", labels=(*labels, "grpc_code")
        )
        seconds = HistogramMetricFamily(
            "grpc_server_handling_seconds",
            "Time from a call's begin to its end in the handler, of streams too, by status code: the latency.",
            labels=(*labels, "grpc_code"),
        )
        streams = GaugeMetricFamily(
            "tickwatch_rpc_open_streams", "Streams being served now; compare with the limit.", labels=labels
        )
        for key, tally in sorted(self._tallies.items()):
            begun, still_open, ended = tally.read()
            started.add_metric(key, begun)
            for code, (buckets, total) in ended.items():
                handled.add_metric((*key, code), buckets[-1][1])
                seconds.add_metric((*key, code), buckets, total)
            if key[0] != "unary":
                streams.add_metric(key, still_open)
        yield from (started, handled, seconds, streams)


_rpc_metrics: weakref.WeakKeyDictionary[CollectorRegistry, RpcMetrics] = weakref.WeakKeyDictionary()


def rpc_metrics(registry: CollectorRegistry) -> RpcMetrics:
    """Return the registry's RPC metrics; the servers of one process share them."""
    if registry not in _rpc_metrics:
        _rpc_metrics[registry] = RpcMetrics()
        registry.register(_rpc_metrics[registry])
    return _rpc_metrics[registry]


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
            buckets=_LATENCY_BUCKETS,
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
