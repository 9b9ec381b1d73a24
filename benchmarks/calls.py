"""Section `calls`: what a question costs, ours on both stores beside Flux, VictoriaMetrics and the gRPC floor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import grpc

from benchmarks.data import MEASURES, Market
from benchmarks.floor import KINDS
from benchmarks.options import Options
from benchmarks.peers import Column, GrpcPeer, HttpPeer, Peer, PythonPeer, interleave
from benchmarks.questions import (
    HIST,
    LIST,
    QUESTIONS,
    RANK,
    Truth,
    ask_grpc,
    check_flux,
    check_ours,
    check_victoria,
    client_asker,
    flux,
    flux_asker,
    flux_script,
    grpc_path,
    grpc_request,
    victoria_urls,
)
from benchmarks.report import Report, Table, number
from benchmarks.servers import (
    GrpcServer,
    MissingPeerError,
    bodies,
    floor_path,
    floor_server,
    influxd,
    query_service,
    scratch,
    victoria,
)
from benchmarks.statistics import Bound, Goal, Spread, best, ratios
from benchmarks.stores import load_store

SQLITE, INFLUX = "Tickwatch on SQLite", "Tickwatch on InfluxDB"
PAIR = "Tickwatch on SQLite, 2 processes"
OUR_CLIENT = "Tickwatch on SQLite by tickwatch.Client"
VICTORIA, EXPORT = "VictoriaMetrics", "VictoriaMetrics export"
FLUX, FLUX_CLIENT = "InfluxDB, Flux by HTTP", "InfluxDB, Flux by influxdb-client"
MANY = 16
SEED_COUNT = 3
TIMES_FASTER = {VICTORIA: 5.0, FLUX_CLIENT: 100.0}
"""By how much a ranking and a list are to be faster than these."""


def floor_name(kind: str) -> str:
    """Return the name of a floor in tables."""
    return f"gRPC floor, {'asyncio' if kind == 'aio' else 'thread pool'}"


FLOORS = tuple(floor_name(kind) for kind in KINDS)


@dataclass(slots=True)
class Contest:
    """All servers with one market in them, and the ways to ask them each question."""

    market: Market
    peers: dict[str, list[Peer]]
    ours: dict[str, GrpcServer]


def run(options: Options, report: Report) -> None:
    """Measure the large market and the seed's three metrics against all peers."""
    for count in (options.metric_count, SEED_COUNT):
        print(f"calls: {count} metrics", flush=True)
        with ExitStack() as stack:
            contest = _open_contest(stack, Market(count), report)
            for question in QUESTIONS:
                _measure(contest, question, options, report)
            if count == options.metric_count:
                _measure_unprepared(contest, options, report)


def _open_contest(stack: ExitStack, market: Market, report: Report) -> Contest:
    contest = Contest(market, {question: [] for question in QUESTIONS}, {})
    truth = Truth(market)
    url = f"sqlite:{stack.enter_context(scratch())}/tickwatch.db"
    load_store(url, market)
    contest.ours[SQLITE] = stack.enter_context(query_service(url))
    if market.metric_count != SEED_COUNT:
        contest.ours[PAIR] = stack.enter_context(query_service(url, processes=2))
    for rival, add in ((f"{INFLUX} and Flux", _add_influx), (VICTORIA, _add_victoria)):
        try:
            add(stack, contest, truth)
        except MissingPeerError as error:
            report.skip(rival, error)
    _add_grpc(stack, contest, truth)
    return contest


def _add_influx(stack: ExitStack, contest: Contest, truth: Truth) -> None:
    """Add influxd, asked in Flux by a C and by a Python client, and our service on it."""
    influx = stack.enter_context(influxd())
    bucket = stack.enter_context(influx.bucket("market"))
    load_store(influx.store_url(bucket), contest.market)
    contest.ours[INFLUX] = stack.enter_context(query_service(influx.store_url(bucket)))
    for question in QUESTIONS:
        query = flux(question, bucket, contest.market)
        check_flux(truth, question, influx, query)
        path, script = flux_script(query)
        contest.peers[question] += [
            HttpPeer(FLUX, influx.process, influx.url + path, script),
            PythonPeer(FLUX_CLIENT, influx.process, flux_asker(influx, query)),
        ]


def _add_victoria(stack: ExitStack, contest: Contest, truth: Truth) -> None:
    """Add VictoriaMetrics with the four measures of the market."""
    rival = stack.enter_context(victoria())
    for body in bodies(contest.market.line_protocol(qualities=False)):
        rival.write(body)
    rival.flush()
    urls = victoria_urls(rival, contest.market)
    check_victoria(truth, urls)
    for question in QUESTIONS:
        contest.peers[question].append(HttpPeer(VICTORIA, rival.process, urls[question]))
    contest.peers[HIST].append(HttpPeer(EXPORT, rival.process, urls[f"{HIST} export"]))


def _add_grpc(stack: ExitStack, contest: Contest, truth: Truth) -> None:
    """Add our services, and the floors that return what ours just answered."""
    prepared = {}
    for question in QUESTIONS:
        request, path = grpc_request(question, contest.market), grpc_path(question)
        for name, server in contest.ours.items():
            answer = ask_grpc(server, path, request)
            check_ours(truth, name, question, answer)
            peer = GrpcPeer(name, server.process, server.method_url(path), request, len(answer))
            contest.peers[question].append(peer)
            prepared[question] = answer
        ask = client_asker(stack, contest.ours[SQLITE], question, contest.market)
        contest.peers[question].append(PythonPeer(OUR_CLIENT, contest.ours[SQLITE].process, ask))
    for kind in KINDS:
        floor = stack.enter_context(floor_server(kind, prepared))
        for question, answer in prepared.items():
            request, url = grpc_request(question, contest.market), floor.method_url(floor_path(question))
            contest.peers[question].append(GrpcPeer(floor_name(kind), floor.process, url, request, len(answer)))


def _measure(contest: Contest, question: str, options: Options, report: Report) -> None:
    peers = contest.peers[question]
    many_peers = [
        peer for peer in peers if not isinstance(peer, PythonPeer) and (question == HIST or peer.name != FLUX)
    ]
    one = interleave(peers, clients=1, seconds=options.seconds, rounds=options.rounds)
    many = interleave(many_peers, clients=MANY, seconds=options.seconds, rounds=options.rounds)
    header = ["server", "p50 ms, 1 client", f"calls/s, {MANY} clients", "server CPU ms per call", "cores used"]
    title = f"{question}, {contest.market.metric_count:,} metrics"
    report.table(Table(title, header, [_row(one[name], many.get(name)) for name in one]))
    for name in contest.ours:
        what = f"{question} of {contest.market.metric_count:,}, {name}"
        if name != PAIR:  # more processes are for many clients
            floor = best(*(one[each].p50 for each in FLOORS))
            report.goal(Goal(f"{what}: p50 / gRPC floor", Bound.AT_MOST, 1.3, ratios(one[name].p50, floor)))
        if contest.market.metric_count == SEED_COUNT:
            continue  # of three metrics there is nothing to compute, for anybody
        if question == HIST:
            _compare_costs(what, many[name], [many[each] for each in (VICTORIA, EXPORT) if each in many], report)
        elif name != PAIR:
            _compare_times(what, one[name], [one[each] for each in TIMES_FASTER if each in one], report)


def _row(one: Column, many: Column | None) -> list[str]:
    row = [one.name, number(Spread.of(one.p50), factor=1e3)]
    if many is None:
        return [*row, "", "", ""]
    per_call = number(Spread.of(many.cpu_per_call), factor=1e3)
    return [*row, number(Spread.of(many.calls_per_second)), per_call, f"{many.cores.median:.2f}"]


def _compare_costs(what: str, ours: Column, rivals: list[Column], report: Report) -> None:
    detail = f"{MANY} clients"
    for rival in rivals:
        cpu = ratios(ours.cpu_per_call, rival.cpu_per_call)
        rate = ratios(ours.calls_per_second, rival.calls_per_second)
        report.goal(Goal(f"{what}: server CPU per call / {rival.name}", Bound.AT_MOST, 1, cpu, detail))
        if ours.name == PAIR:  # one process of Python cannot use both cores, and the rivals do
            report.goal(Goal(f"{what}: calls per second / {rival.name}", Bound.AT_LEAST, 1, rate, detail))


def _compare_times(what: str, ours: Column, rivals: list[Column], report: Report) -> None:
    for rival in rivals:
        faster = ratios(rival.p50, ours.p50)
        report.goal(Goal(f"{what}: times faster than {rival.name}", Bound.AT_LEAST, TIMES_FASTER[rival.name], faster))


def unprepared_requests(question: str, market: Market) -> Iterator[bytes]:
    """Yield requests that differ each time, so that no prepared answer fits: other series, windows, page sizes."""
    for turn in itertools.count():
        match question:
            case "GetHistory":
                number_, measure = turn % market.metric_count, turn // market.metric_count % len(MEASURES) + 1
                yield grpc_request(HIST, market, metric=market.metric(number_), measure=measure)
            case "RankMetrics":
                window, measure = 1439 - turn % 1400, turn // 1400 % len(MEASURES) + 1
                yield grpc_request(RANK, market, window={"seconds": window * 60}, measure=measure)
            case _:
                yield grpc_request(LIST, market, page_size=10_000 + turn)


def python_peer(stack: ExitStack, name: str, server: GrpcServer, path: str, requests: Iterator[bytes]) -> PythonPeer:
    """Return a peer that calls through grpcio from this process, each time with the next request."""
    options = [("grpc.max_receive_message_length", -1)]
    channel = stack.enter_context(grpc.insecure_channel(server.address, options=options))
    call: Callable[..., bytes] = channel.unary_unary(f"/{path}")
    return PythonPeer(name, server.process, lambda: call(next(requests), timeout=60))


def _measure_unprepared(contest: Contest, options: Options, report: Report) -> None:
    """Compare answers that must be made with prepared ones, both through grpcio in Python."""
    rows = []
    for question in QUESTIONS:
        with ExitStack() as stack:
            server = contest.ours[SQLITE]
            path = grpc_path(question)
            same = itertools.repeat(grpc_request(question, contest.market))
            peers: list[Peer] = [
                python_peer(stack, "same", server, path, same),
                python_peer(stack, "new", server, path, unprepared_requests(question, contest.market)),
            ]
            rivals = [peer for peer in contest.peers[question] if peer.name == VICTORIA]
            done = interleave([*peers, *rivals], clients=1, seconds=options.seconds, rounds=options.rounds)
        same_p50, new_p50 = done["same"].p50, done["new"].p50
        rival = number(ratios(done[VICTORIA].p50, new_p50)) if rivals else ""
        times = [number(Spread.of(column), factor=1e3) for column in (same_p50, new_p50)]
        rows.append([question, *times, number(ratios(new_p50, same_p50)), rival])
    header = ["call", "p50 ms, asked before", "p50 ms, never asked before", "ratio", "VictoriaMetrics / never asked"]
    title = f"Never asked before, {contest.market.metric_count:,} metrics, {SQLITE}, 1 client in Python"
    report.table(Table(title, header, list(rows)))
