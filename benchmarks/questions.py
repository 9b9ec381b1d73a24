"""The three questions, in the words of each server, and the check that all of them give the same answer.

HIST is one day of one metric's prices, RANK all metrics by the standard deviation of a day's prices, LIST all metrics
with their newest values. Flux and MetricsQL are what a service of ours would have to ask if it were not there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import grpc
import numpy as np
import tickwatch
from tickwatch.v1 import query_pb2

from benchmarks.data import EXCHANGE, MEASURES, Market
from benchmarks.servers import ORG, TOKEN, GrpcServer, Influx, Victoria, fetch
from services.core.model import DAY_SLOTS, SLOT_SECONDS, slot_time

HIST, RANK, LIST = "GetHistory", "RankMetrics", "ListMetrics"
QUESTIONS = (HIST, RANK, LIST)
ASKED = 2
"""The number of the metric that HIST asks for; there in the smallest market too."""
_PAGE = 10_000


class WrongAnswerError(Exception):
    """A server's answer is not the one that the data has; measuring it would mean nothing."""


class Truth:
    """The right answers, computed by numpy from the generated data."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._prices = np.concatenate([values[0] for _, values in market.blocks()])
        self._series_count = market.metric_count * len(MEASURES)

    def check_history(self, who: str, values: Sequence[float], *, passed: int = 0) -> None:
        """Compare prices; `passed` is by how many minutes the answered day is later than the data's."""
        right = self._prices[ASKED][passed:]
        if len(values) != len(right) or not (np.asarray(values) == right).all():
            raise WrongAnswerError(f"{who} answers {HIST} with {len(values)} values from {values[:3]}, not {right[:3]}")

    def check_ranking(self, who: str, names: Sequence[str], *, skipped: int = 0, ddof: int = 1) -> None:
        """Check that every metric is there, by falling deviation of the day without its `skipped` first slots."""
        places = [int(name.removeprefix(f"{EXCHANGE}:M")) for name in names]
        deviations = self._prices[:, skipped:].std(axis=1, ddof=ddof)[places]
        if sorted(places) != list(range(len(self._prices))) or (np.diff(deviations) > 1e-9 * deviations[:-1]).any():
            raise WrongAnswerError(f"{who} answers {RANK} with {len(names)} metrics from {names[:3]}, in a wrong order")

    def check_count(self, who: str, series: int) -> None:
        """Check how many series LIST gave."""
        if series != self._series_count:
            raise WrongAnswerError(f"{who} answers {LIST} with {series} series, not {self._series_count}")


def grpc_request(question: str, market: Market, **more: Any) -> bytes:  # noqa: ANN401  # fields of the request
    """Return the serialised request to our service; `more` sets other fields or replaces ours."""
    message: Any
    match question:
        case "GetHistory":
            fields = {"metric": market.metric(ASKED), "measure": query_pb2.MEASURE_PRICE}
            message = query_pb2.GetHistoryRequest(**{**fields, **more})
        case "RankMetrics":
            fields = {"measure": query_pb2.MEASURE_PRICE, "page_size": _PAGE}
            message = query_pb2.RankMetricsRequest(**{**fields, **more})
        case _:
            message = query_pb2.ListMetricsRequest(**{"page_size": _PAGE, **more})
    return bytes(message.SerializeToString())


def grpc_path(question: str) -> str:
    """Return SERVICE/METHOD of our service."""
    return f"tickwatch.v1.QueryService/{question}"


def ask_grpc(server: GrpcServer, path: str, request: bytes) -> bytes:
    """Call a method once and return the serialised answer."""
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        call: Callable[..., bytes] = channel.unary_unary(f"/{path}")
        return call(request, timeout=60)


def client_asker(stack: ExitStack, server: GrpcServer, question: str, market: Market) -> Callable[[], object]:
    """Return a function that asks through `tickwatch.Client` for results as a program would use them."""
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)
    client = tickwatch.Client(server.address)
    stack.callback(lambda: loop.run_until_complete(client.close()))

    async def list_metrics() -> list[tickwatch.Metric]:
        return [metric async for metric in client.list_metrics()]

    ask: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        HIST: lambda: client.get_history(market.metric(ASKED), "price"),
        RANK: lambda: client.rank_metrics("price"),
        LIST: list_metrics,
    }
    return lambda: loop.run_until_complete(ask[question]())


def check_ours(truth: Truth, who: str, question: str, answer: bytes) -> None:
    """Check what our service said; minutes may have passed since the data's end, and its day has moved by them."""
    match question:
        case "GetHistory":
            values = np.asarray(query_pb2.GetHistoryResponse.FromString(answer).values)
            passed = int(np.isnan(values).sum())
            truth.check_history(who, values[: len(values) - passed].tolist(), passed=passed)
        case "RankMetrics":
            ranked = query_pb2.RankMetricsResponse.FromString(answer)
            passed = DAY_SLOTS - min(ranking.point_count for ranking in ranked.rankings)
            truth.check_ranking(who, [ranking.metric for ranking in ranked.rankings], skipped=passed)
        case _:
            metrics = query_pb2.ListMetricsResponse.FromString(answer).metrics
            truth.check_count(who, sum(len(metric.measures) for metric in metrics))


def victoria_urls(server: Victoria, market: Market) -> dict[str, str]:
    """Return the URLs to ask; HIST has two forms, of which `export` is the faster and takes raw samples only."""
    window = market.window
    start, end = window.start * SLOT_SECONDS, (window.end - 1) * SLOT_SECONDS
    one = f'metric_price{{exchange="{EXCHANGE}",pair="{market.pair(ASKED)}"}}'
    every = '{__name__=~"' + "|".join(f"metric_{measure}" for measure in MEASURES) + '"}'
    queries = {
        HIST: ("query_range", {"query": one, "start": start, "end": end, "step": SLOT_SECONDS, "nocache": 1}),
        f"{HIST} export": ("export", {"match[]": one, "start": start, "end": end}),
        RANK: ("query", {"query": "sort_desc(stddev_over_time(metric_price[24h]))", "time": end, "nocache": 1}),
        LIST: ("series", {"match[]": every, "start": start, "end": end}),
    }
    return {name: f"{server.url}/api/v1/{path}?{urlencode(query)}" for name, (path, query) in queries.items()}


def check_victoria(truth: Truth, urls: dict[str, str]) -> None:
    """Check what VictoriaMetrics says; its deviation is the population's, over 24 h without their left edge."""
    who = "VictoriaMetrics"
    data = {name: json.loads(fetch(url)) for name, url in urls.items()}
    truth.check_history(who, [float(value) for _, value in data[HIST]["data"]["result"][0]["values"]])
    truth.check_history(who, data[f"{HIST} export"]["values"])
    ranked = [f"{EXCHANGE}:{each['metric']['pair']}" for each in data[RANK]["data"]["result"]]
    truth.check_ranking(who, ranked, ddof=0)
    truth.check_count(who, len(data[LIST]["data"]))


def flux(question: str, bucket: str, market: Market) -> str:
    """Return the question in Flux, over our own store's layout."""
    window = market.window
    start, stop = (slot_time(slot).isoformat() for slot in (window.start, window.end))
    source = f'from(bucket: "{bucket}") |> range(start: {start}, stop: {stop}) |> filter(fn: (r) => '
    price = 'r._measurement == "metric" and r._field == "price"'
    match question:
        case "GetHistory":
            one = f'r.exchange == "{EXCHANGE}" and r.pair == "{market.pair(ASKED)}"'
            return f'{source}{price} and {one}) |> keep(columns: ["_time", "_value"])'
        case "RankMetrics":
            return f'{source}{price}) |> stddev() |> group() |> sort(columns: ["_value"], desc: true)'
        case _:
            fields = " or ".join(f'r._field == "{measure}"' for measure in MEASURES)
            return f'{source}r._measurement == "metric" and ({fields})) |> last()'


def flux_script(query: str) -> tuple[str, str]:
    """Return the path to post to and wrk's script for posting the query."""
    body = json.dumps({"query": query, "type": "flux", "dialect": {"annotations": []}})
    script = (
        f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n'
        f'wrk.headers["Authorization"] = "Token {TOKEN}"\nwrk.headers["Content-Type"] = "application/json"\n'
    )
    return f"/api/v2/query?org={ORG}", script


def flux_asker(server: Influx, query: str, column: str = "_value") -> Callable[[], list[str]]:
    """Return a function that runs the query through influxdb-client and returns one column, the cheapest way it has."""
    # Slow to import, and not every run needs them; its package does not export by name what it documents.
    from influxdb_client.client.influxdb_client import InfluxDBClient  # noqa: PLC0415
    from influxdb_client.domain.dialect import Dialect  # noqa: PLC0415

    client = InfluxDBClient(server.url, TOKEN, org=ORG, timeout=600_000)
    query_api = client.query_api()
    dialect: Any = Dialect(header=True, annotations=[], delimiter=",")  # type: ignore[no-untyped-call]  # generated code

    def ask() -> list[str]:
        found: list[str] = []
        place = -1
        for row in query_api.query_csv(query, dialect=dialect):
            if column in row:
                place = row.index(column)
            elif len(row) > place >= 0:
                found.append(row[place])
        return found

    return ask


def check_flux(truth: Truth, question: str, server: Influx, query: str) -> None:
    """Check what Flux says."""
    found = flux_asker(server, query, "pair" if question == RANK else "_value")()
    match question:
        case "GetHistory":
            truth.check_history("Flux", [float(value) for value in found])
        case "RankMetrics":
            truth.check_ranking("Flux", [f"{EXCHANGE}:{pair}" for pair in found])
        case _:
            truth.check_count("Flux", len(found))
