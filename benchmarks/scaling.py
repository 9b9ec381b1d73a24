"""Section `scaling`: the same questions at 1,000 and at 10,000 metrics, and the memory that the window takes."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.calls import python_peer, unprepared_requests
from benchmarks.data import MEASURES, Market
from benchmarks.options import Options
from benchmarks.peers import GrpcPeer, Peer, interleave
from benchmarks.questions import QUESTIONS, Truth, ask_grpc, check_ours, grpc_path, grpc_request
from benchmarks.report import Report, Table, number
from benchmarks.servers import GrpcServer, query_service, scratch
from benchmarks.statistics import Bound, Goal, Spread, ratios
from benchmarks.stores import load_store

TIMES = 8
"""How much longer ten times as many metrics may take."""
BYTES_PER_SERIES = 1500 * 8
MEMORY_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class Sized:
    """A service with a market in it."""

    market: Market
    server: GrpcServer
    rss_bytes: int
    window_bytes: float


def run(options: Options, report: Report) -> None:
    """Measure both markets in turns, on SQLite."""
    print(f"scaling: {options.metric_count} and {options.large_count} metrics", flush=True)
    with ExitStack() as stack:
        seed, small, large = (_open(stack, count) for count in (3, options.metric_count, options.large_count))
        rows = []
        for question in QUESTIONS:
            rows += _grow(question, small, large, options, report)
        _weigh(seed, (small, large), report)
    header = ["call", f"p50 ms, {options.metric_count:,} metrics", f"p50 ms, {options.large_count:,} metrics", "ratio"]
    report.table(Table("Growth with the number of metrics, Tickwatch on SQLite, 1 client", header, rows))


def _open(stack: ExitStack, count: int) -> Sized:
    market = Market(count)
    folder = stack.enter_context(scratch())
    url = f"sqlite:{folder}/tickwatch.db"
    load_store(url, market)
    server = stack.enter_context(query_service(url))
    rss = server.process.rss_bytes()
    truth = Truth(market)
    for question in QUESTIONS:
        answer = ask_grpc(server, grpc_path(question), grpc_request(question, market))
        check_ours(truth, f"Tickwatch with {count} metrics", question, answer)
    return Sized(market, server, rss, server.metric("tickwatch_window_bytes"))


def _grow(question: str, small: Sized, large: Sized, options: Options, report: Report) -> list[list[str]]:
    with ExitStack() as stack:
        peers: list[Peer] = []
        for sized in (small, large):
            path, request = grpc_path(question), grpc_request(question, sized.market)
            size = len(ask_grpc(sized.server, path, request))
            count = sized.market.metric_count
            url = sized.server.method_url(path)
            peers.append(GrpcPeer(f"prepared {count}", sized.server.process, url, request, size))
            new = unprepared_requests(question, sized.market)
            peers.append(python_peer(stack, f"new {count}", sized.server, path, new))
            peers.append(python_peer(stack, f"same {count}", sized.server, path, itertools.repeat(request)))
        done = interleave(peers, clients=1, seconds=options.seconds, rounds=options.rounds)
    rows = []
    names = {"prepared": "asked before, h2load", "same": "asked before, Python", "new": "never asked before, Python"}
    for kind, name in names.items():
        little, much = (done[f"{kind} {sized.market.metric_count}"].p50 for sized in (small, large))
        growth = ratios(much, little)
        cells = [number(Spread.of(column), factor=1e3) for column in (little, much)]
        rows.append([f"{question}, {name}", *cells, number(growth)])
        if kind != "same":
            counts = f"{large.market.metric_count:,} / {small.market.metric_count:,} metrics"
            report.goal(Goal(f"{question}, {name}: time at {counts}", Bound.AT_MOST, TIMES, growth))
    return rows


def _weigh(seed: Sized, others: tuple[Sized, ...], report: Report) -> None:
    """Compare the window's own arrays with what the design allows, and show what the process takes beside them."""
    rows = [["3", "12", f"{seed.window_bytes / 2**20:.1f}", f"{seed.rss_bytes / 2**20:.0f}", ""]]
    for sized in others:
        count = sized.market.metric_count
        series = count * len(MEASURES)
        grown = (sized.rss_bytes - seed.rss_bytes) / series
        arrays = Spread.of([sized.window_bytes / (series * BYTES_PER_SERIES)])
        name = f"window of {count:,} metrics: bytes per series / 12,000"
        report.goal(Goal(name, Bound.AT_MOST, MEMORY_FACTOR, arrays, "its arrays, exact"))
        resident = Spread.of([grown / BYTES_PER_SERIES])
        name = f"service of {count:,} metrics: growth of RSS per series / 12,000 bytes"
        report.goal(Goal(name, Bound.AT_MOST, MEMORY_FACTOR, resident, "over 3 metrics, one reading"))
        sizes = [f"{each / 2**20:,.0f}" for each in (sized.window_bytes, sized.rss_bytes)]
        rows.append([f"{count:,}", f"{series:,}", *sizes, f"{grown:,.0f}"])
    header = ["metrics", "series", "window's arrays, MiB", "RSS when ready, MiB", "growth of RSS per series, bytes"]
    report.table(Table("Memory of the query service", header, rows))
