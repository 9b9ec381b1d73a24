"""Section `gateway`: what HTTP costs on top of gRPC, a drawn day the browser, and an open event stream the gateway."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
from tickwatch.v1 import query_pb2

from benchmarks.calls import python_peer, unprepared_requests
from benchmarks.data import MEASURES, Market
from benchmarks.drawing import measure_drawing
from benchmarks.options import Options
from benchmarks.peers import GrpcPeer, HttpPeer, PythonPeer, interleave
from benchmarks.questions import ASKED, HIST, WrongAnswerError, ask_grpc, grpc_path, grpc_request
from benchmarks.report import Report, Table, number
from benchmarks.servers import GrpcServer, WebServer, fetch, gateway_service, query_service, scratch
from benchmarks.statistics import Bound, Goal, Spread, ratios
from benchmarks.stores import load_store
from services.core.model import Measure

TIMES_GRPC = 3.0
STREAMS = 2_000
MOST_KIB_PER_STREAM = 64.0

GRPC, HTTP, GZIP = "gRPC", "HTTP", "HTTP, gzip"
_MEASURES = [str(measure) for measure in Measure]


def run(options: Options, report: Report) -> None:
    """Compare a history by HTTP with the same by gRPC, asked before and never; draw a day; hold the streams."""
    print(f"gateway: {options.metric_count} metrics", flush=True)
    market = Market(options.metric_count)
    with ExitStack() as stack:
        url = f"sqlite:{stack.enter_context(scratch())}/tickwatch.db"
        load_store(url, market)
        service = stack.enter_context(query_service(url))
        gateway = stack.enter_context(gateway_service(service.address))
        _check(service, gateway, market)
        _measure_prepared(service, gateway, market, options, report)
        _measure_unprepared(service, gateway, market, options, report)
        measure_drawing(gateway, market.metric(ASKED), options.rounds, report)
        _measure_streams(stack, gateway, report)


def history_path(market: Market, metric: int = ASKED, measure: str = "price") -> str:
    """Return the address of a history."""
    return f"/v1/metrics/{market.metric(metric)}/{measure}/history"


def _check(service: GrpcServer, gateway: WebServer, market: Market) -> None:
    """Compare the two answers value by value; a minute may have passed between them."""
    asked = query_pb2.GetHistoryResponse.FromString(ask_grpc(service, grpc_path(HIST), grpc_request(HIST, market)))
    told = json.loads(fetch(gateway.url + history_path(market)))["values"]
    ours, theirs = np.array(told, float), np.asarray(asked.values)
    pairs = ((ours, theirs), (ours[:-1], theirs[1:]))
    if not any(np.array_equal(one, other, equal_nan=True) for one, other in pairs):
        raise WrongAnswerError("the gateway's history is not the query service's")


def _measure_prepared(
    service: GrpcServer, gateway: WebServer, market: Market, options: Options, report: Report
) -> None:
    request = grpc_request(HIST, market)
    answer = ask_grpc(service, grpc_path(HIST), request)
    url = gateway.url + history_path(market)
    peers = [
        GrpcPeer(GRPC, service.process, service.method_url(grpc_path(HIST)), request, len(answer)),
        HttpPeer(HTTP, gateway.process, url),
        HttpPeer(GZIP, gateway.process, url, 'wrk.headers["Accept-Encoding"] = "gzip"'),
    ]
    one = interleave(peers, clients=1, seconds=options.seconds, rounds=options.rounds)
    rows = [
        [name, number(Spread.of(column.p50), factor=1e3), number(Spread.of(column.calls_per_second))]
        for name, column in one.items()
    ]
    header = ["by", "p50 ms, 1 client", "calls/s, 1 client"]
    report.table(Table(f"History by HTTP, asked before, {market.metric_count:,} metrics", header, rows))
    for name in (HTTP, GZIP):
        ratio = ratios(one[name].p50, one[GRPC].p50)
        report.goal(Goal(f"History by {name}: p50 / gRPC", Bound.AT_MOST, TIMES_GRPC, ratio))


def _measure_unprepared(
    service: GrpcServer, gateway: WebServer, market: Market, options: Options, report: Report
) -> None:
    """Compare both as Python programs see them, each asking for another series every time."""
    with ExitStack() as stack:
        peers = [
            python_peer(stack, GRPC, service, grpc_path(HIST), unprepared_requests(HIST, market)),
            PythonPeer(HTTP, gateway.process, _http_asker(stack, gateway, _unprepared_paths(market))),
        ]
        done = interleave(peers, clients=1, seconds=options.seconds, rounds=options.rounds)
    rows = [[name, number(Spread.of(column.p50), factor=1e3)] for name, column in done.items()]
    title = f"History by HTTP, never asked before, {market.metric_count:,} metrics, 1 client in Python"
    report.table(Table(title, ["by", "p50 ms"], rows))
    ratio = ratios(done[HTTP].p50, done[GRPC].p50)
    report.goal(Goal("History by HTTP, never asked before: p50 / gRPC", Bound.AT_MOST, TIMES_GRPC, ratio))


def _unprepared_paths(market: Market) -> Iterator[str]:
    """Go through all series: by the time one comes again, the gateway has long forgotten that it was asked."""
    for turn in itertools.count():
        measure = _MEASURES[turn // market.metric_count % len(MEASURES)]
        yield f"{history_path(market, turn % market.metric_count, measure)}?interval=1m"


def _http_asker(stack: ExitStack, gateway: WebServer, paths: Iterator[str]) -> Callable[[], bytes]:
    connection = http.client.HTTPConnection(gateway.address, timeout=60)
    stack.callback(connection.close)

    def ask() -> bytes:
        connection.request("GET", next(paths))
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise WrongAnswerError(f"HTTP {answer.status}: {body[:200]!r}")
        return body

    return ask


def _measure_streams(stack: ExitStack, gateway: WebServer, report: Report) -> None:
    """Open the streams, read each until its first event, and weigh the process before and after."""
    host, _, port = gateway.address.rpartition(":")
    before = gateway.process.rss_bytes()
    for _ in range(STREAMS):
        reader = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
        reader.sendall(b"GET /v1/points/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while b"event: bookmark" not in received:
            if not (part := reader.recv(65_536)):
                raise WrongAnswerError(f"a stream ended: {received[-300:]!r}")
            received += part
    held = gateway.metric("tickwatch_http_event_streams")
    shared = gateway.metric("tickwatch_gateway_relays")
    each = (gateway.process.rss_bytes() - before) / STREAMS / 1024
    header = ["open event streams", "streams of the service", "KiB each"]
    report.table(Table("Event streams of one gateway", header, [[f"{held:,.0f}", f"{shared:.0f}", f"{each:.1f}"]]))
    report.goal(Goal("Event streams held by one process", Bound.AT_LEAST, STREAMS, Spread.of([held])))
    report.goal(Goal("KiB per event stream", Bound.AT_MOST, MOST_KIB_PER_STREAM, Spread.of([each])))
