"""Section `loading`: points per second into our stores in bulk, and into the same influxd from ready line protocol."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from benchmarks.data import Market
from benchmarks.options import Options
from benchmarks.questions import flux_asker
from benchmarks.report import Report, Table, number
from benchmarks.servers import ORG, Influx, MissingPeerError, bodies, influxd, scratch
from benchmarks.statistics import Bound, Goal, Spread, best, ratios
from benchmarks.stores import opened
from services.core.model import Points, slot_time
from services.core.store.influx.lanes import LANES

SQLITE_GOAL = 1_000_000


def run(options: Options, report: Report) -> None:
    """Load the whole market anew in each round."""
    market = Market(options.metric_count)
    batches = list(market.batches())
    print(f"loading: {market.point_count:,} points", flush=True)
    rows = []
    orders = {"series by series": batches, "minute by minute": list(market.batches_by_time())}
    rates: dict[str, list[float]] = {order: [] for order in orders}
    for _ in range(options.slow_rounds):
        for order, ordered in orders.items():
            rates[order].append(_load_sqlite(ordered, market))
    for order, found in rates.items():
        name = f"bulk load of {market.point_count:,} points into SQLite, {order}, points/s"
        report.goal(Goal(name, Bound.AT_LEAST, SQLITE_GOAL, Spread.of(found), "absolute"))
        rows.append([f"Tickwatch into SQLite, {order}", number(Spread.of(found))])
    try:
        with influxd() as influx:
            ours, ready = _load_influx(influx, market, batches, options.slow_rounds)
    except MissingPeerError as error:
        report.skip("bulk load into InfluxDB", error)
    else:
        share = ratios(ours, best(*ready.values(), greatest=True))
        name = f"bulk load of {market.point_count:,} points into InfluxDB / pre-encoded line protocol"
        report.goal(Goal(name, Bound.AT_LEAST, 0.7, share))
        rows.append([f"Tickwatch into InfluxDB, connections: {LANES}", number(Spread.of(ours))])
        for connections, of_ready in ready.items():
            name = f"pre-encoded line protocol into influxd, bodies of 2 MB, connections: {connections}"
            rows.append([name, number(Spread.of(of_ready))])
    report.table(Table(f"Bulk load, {market.metric_count:,} metrics", ["what", "points/s"], rows))


def _load_sqlite(batches: Sequence[Points], market: Market) -> float:
    with scratch() as folder, opened(f"sqlite:{folder}/tickwatch.db") as store:
        started = time.perf_counter()
        store.write_batches(batches)
        return market.point_count / (time.perf_counter() - started)


def _load_influx(
    influx: Influx, market: Market, batches: Sequence[Points], rounds: int
) -> tuple[list[float], dict[int, list[float]]]:
    """Return points per second round by round: ours, and of ready bodies by the number of connections."""
    ready = list(bodies(market.line_protocol(qualities=True)))
    ours: list[float] = []
    peers: dict[int, list[float]] = {1: [], LANES: []}
    for turn in range(rounds):
        with influx.bucket(f"ours-{turn}") as bucket, opened(influx.store_url(bucket)) as store:
            started = time.perf_counter()
            store.write_batches(batches)
            ours.append(market.point_count / (time.perf_counter() - started))
            _check_count(influx, bucket, market)
        for connections, rates in peers.items():
            with influx.bucket(f"ready-{turn}-{connections}") as bucket:
                started = time.perf_counter()
                _post_all(influx, bucket, ready, connections)
                rates.append(market.point_count / (time.perf_counter() - started))
                _check_count(influx, bucket, market)
    return ours, peers


def _post_all(influx: Influx, bucket: str, ready: Sequence[bytes], connections: int) -> None:
    """Post the bodies in order, dealt out to so many keep-alive connections."""
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(lambda first: _post(influx, bucket, ready[first::connections]), range(connections)))


def _post(influx: Influx, bucket: str, ready: Iterable[bytes]) -> None:
    connection = http.client.HTTPConnection(urlsplit(influx.url).netloc, timeout=120)
    try:
        for body in ready:
            path = f"/api/v2/write?org={ORG}&bucket={bucket}&precision=s"
            connection.request("POST", path, body, influx.headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != http.client.NO_CONTENT:
                raise RuntimeError(f"influxd answered {answer.status}: {text[:500]!r}")
    finally:
        connection.close()


def _check_count(influx: Influx, bucket: str, market: Market) -> None:
    """Make sure that all prices have arrived; influxd may count some twice that came by two connections at once."""
    start, stop = (slot_time(slot).isoformat() for slot in (market.window.start, market.window.end))
    query = (
        f'from(bucket: "{bucket}") |> range(start: {start}, stop: {stop}) '
        '|> filter(fn: (r) => r._measurement == "metric" and r._field == "price") |> count() |> group() |> sum()'
    )
    found = flux_asker(influx, query)()
    expected = market.metric_count * len(market.window)
    if len(found) != 1 or int(found[0]) < expected:
        raise RuntimeError(f"{bucket} holds {found} prices, not {expected}")
