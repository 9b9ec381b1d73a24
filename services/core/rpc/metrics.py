"""The calls of a process's servers, counted for Prometheus under the names that dashboards for gRPC servers know."""

from __future__ import annotations

import bisect
import itertools
import threading
import weakref
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from services.core.telemetry import LATENCY_BUCKETS


class _Ended:
    """The calls of one method that ended with one status code."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)
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
        place = bisect.bisect_left(LATENCY_BUCKETS, seconds)
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
        bounds = [*map(floatToGoString, LATENCY_BUCKETS), "+Inf"]
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
