"""Section `starting`: from process start to a collector's points, to a query service, to everything in one process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.data import MEASURES, Market
from benchmarks.options import Options
from benchmarks.processes import running
from benchmarks.report import Report, Table, number
from benchmarks.servers import (
    ORG,
    TICKWATCH,
    Influx,
    MissingPeerError,
    influxd,
    query_service,
    scratch,
    starting_query_service,
    tickwatch_environment,
)
from benchmarks.statistics import Bound, Goal, Spread, ratios
from benchmarks.stores import load_store, opened
from services.core.catalog.base import DEFAULT_MARKETS
from services.core.model import DAY_SLOTS, Measure, Window, last_complete_slot, slot_time
from services.core.store.base import MetricStore
from services.query.window import HOT_SLOTS

_COMMAND_SECONDS = 0.3
_PYTHON = "python -c pass"
_PRINT = "python -c 'print()'"
_HTTPX = "python -c 'import httpx'"
_LIBRARIES = "python -c 'import httpx, influxdb_client'"
_RIG = Path(os.environ.get("TICKWATCH_RIG", Path(__file__).resolve().parents[2] / "shared" / "rig"))


def run(options: Options, report: Report) -> None:
    """Start collectors and query services over and over."""
    print("starting", flush=True)
    try:
        _start_collectors(options, report)
    except MissingPeerError as error:
        report.skip("a collector's cold start", error)
    try:
        _start_query_services(options, report)
    except MissingPeerError as error:
        report.skip("readiness of the query service on InfluxDB", error)
    _start_everything(options, report)
    _start_commands(options, report)


@contextlib.contextmanager
def _exchange() -> Iterator[str]:
    """Run a stand-in for Kraken that serves recorded data; gives its address."""
    script = _RIG / "exchange"
    if not script.exists():
        raise MissingPeerError(f"no exchange to sample in {_RIG}: set TICKWATCH_RIG")
    with scratch() as folder, running([sys.executable, script, "--port", "0"], log=folder / "log") as process:
        log = folder / "log"
        process.wait_until(lambda: "listening on" in log.read_text())
        yield log.read_text().split("listening on ")[1].split()[0]


def _timed(command: list[str], environment: Mapping[str, str]) -> float:
    """Return seconds from a process's start to its end, which must be a success."""
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{command} exited with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return seconds


def _start_collectors(options: Options, report: Report) -> None:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(_exchange())
        stores: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {"SQLite": _fresh_sqlite}
        try:
            influx = stack.enter_context(influxd())
            stores["InfluxDB"] = lambda: _fresh_bucket(influx)
        except MissingPeerError as error:
            report.skip("a collector's cold start on InfluxDB", error)
        times: dict[str, list[float]] = {}
        for turn in range(options.slow_rounds * 2 + 1):
            seconds = {
                _PYTHON: _timed([sys.executable, "-c", "pass"], {}),
                _HTTPX: _timed([sys.executable, "-c", "import httpx"], {}),
                _LIBRARIES: _timed([sys.executable, "-c", "import httpx, influxdb_client"], {}),
            }
            for name, fresh in stores.items():
                seconds[name], seconds[f"{name}, to its end"] = _collect(fresh, address)
            if turn:  # the first warms the page cache
                for name, taken in seconds.items():
                    times.setdefault(name, []).append(taken)
    for name in stores:
        goal = f"a collector's run on {name}, process start to points in the store / {_HTTPX}"
        report.goal(Goal(goal, Bound.AT_MOST, 3, ratios(times[name], times[_HTTPX])))
    rows = [
        [f"tickwatch collect, {name}" if name.startswith(tuple(stores)) else name, number(Spread.of(taken))]
        for name, taken in times.items()
    ]
    note = (
        "A run that follows another by a minute: it asks a stand-in for Kraken on loopback about three metrics and "
        "writes their newest slot; the stand-in's answering is part of the time. The points are in the store when the "
        "run says so in its record; the other processes are timed to their end."
    )
    report.table(Table("A collector's cold start", ["process", "seconds"], rows, note))


@contextlib.contextmanager
def _fresh_sqlite() -> Iterator[str]:
    with scratch() as folder:
        yield f"sqlite:{folder}/tickwatch.db"


@contextlib.contextmanager
def _fresh_bucket(influx: Influx) -> Iterator[str]:
    with influx.bucket(f"cold-{time.monotonic_ns()}") as bucket:
        yield influx.store_url(bucket)


def _collect(fresh: Callable[[], contextlib.AbstractContextManager[str]], exchange: str) -> tuple[float, float]:
    """Let a first run write all but the newest slot, then time a run of that one: to its points, and to its end."""
    with fresh() as url:
        environment = {**tickwatch_environment(url), "TICKWATCH_EXCHANGES__KRAKEN__BASE_URL": exchange}
        newest = last_complete_slot(time.time())
        _timed([*TICKWATCH, "collect", "--at", slot_time(newest).isoformat()], environment)
        started = time.time()
        ended = _timed([*TICKWATCH, "collect", "--at", slot_time(newest + 1).isoformat()], environment)
        with opened(url) as store:
            series = store.read_window(Window.ending(newest + 1, 1), [Measure.PRICE]).series
            (run,) = store.latest_runs()
        if len(series) != len(DEFAULT_MARKETS[0].pairs):
            raise RuntimeError(f"the collector left {len(series)} prices of its slot in {url}")
        return run.finished_at - started, ended


def _start_query_services(options: Options, report: Report) -> None:
    market = Market(options.metric_count)
    ready: list[float] = []
    downloads: list[float] = []
    with influxd() as influx, influx.bucket("market") as bucket:
        load_store(influx.store_url(bucket), market)
        text = b"".join(_download(influx, bucket, market))
        if text.count(b"\n,_result,") != market.point_count:
            raise RuntimeError(f"not a download of {market.point_count} points: {text[:300]!r}")
        size = len(text)
        del text
        for turn in range(options.slow_rounds + 1):
            started = time.perf_counter()
            with starting_query_service(influx.store_url(bucket)) as server:
                server.process.wait_until(server.is_serving, seconds=600)
                taken = time.perf_counter() - started
            started = time.perf_counter()
            downloaded = sum(map(len, _download(influx, bucket, market)))
            if downloaded != size:
                raise RuntimeError(f"a download of {downloaded} bytes instead of {size}")
            if turn:  # the first finds influxd's caches cold
                ready.append(taken)
                downloads.append(time.perf_counter() - started)
    what = f"query service ready with {market.metric_count:,} metrics on InfluxDB"
    report.goal(Goal(f"{what} / download of the same as CSV", Bound.AT_MOST, 1.5, ratios(ready, downloads)))
    rows = [[f"{what}, from process start", number(Spread.of(ready))]]
    rows += [[f"download of the same points as CSV ({size / 1e6:,.0f} MB), not parsed", number(Spread.of(downloads))]]
    report.table(Table("Readiness of the query service", ["what", "seconds"], rows))


def _start_everything(options: Options, report: Report) -> None:
    """Time `tickwatch up` from process start to its invitation, on a new file and on the file of an earlier start."""
    cold: list[float] = []
    warm: list[float] = []
    with scratch() as folder:
        for turn in range(options.slow_rounds):
            url = f"sqlite:{folder}/{turn}/tickwatch.db"
            cold.append(_time_up(url))
            warm.append(_time_up(url))
    what = "tickwatch up, simulated market, process start to ready"
    report.goal(Goal(f"{what}, warm, seconds", Bound.AT_MOST, 10, Spread.of(warm), "absolute"))
    rows = [["a new file", number(Spread.of(cold))], ["a file with the day in it", number(Spread.of(warm))]]
    report.table(Table("Everything in one process, from process start to ready", ["on", "seconds"], rows))


def _time_up(url: str) -> float:
    """Start everything, let it fill in the day, and return after how many seconds it was ready."""
    environment = {**tickwatch_environment(url), "TICKWATCH_ALERTER__LISTEN": "127.0.0.1:0", "PYTHONUNBUFFERED": "1"}
    command = [*TICKWATCH, "up", "--exchange", "simulated", "--listen", "127.0.0.1:0"]
    started = time.perf_counter()
    with scratch() as folder, running(command, log=folder / "log", environment=environment) as process:
        log = folder / "log"
        process.wait_until(lambda: "Tickwatch is up" in log.read_text())
        seconds = time.perf_counter() - started
        with opened(f"{url.rpartition('/')[0]}/simulated.db") as store:
            process.wait_until(lambda: _slots_written(store) >= DAY_SLOTS)
    return seconds


def _slots_written(store: MetricStore) -> int:
    """Return how many of the newest day's slots have a price of every metric."""
    window = Window.ending(last_complete_slot(time.time()), DAY_SLOTS)
    values = store.read_window(window, [Measure.PRICE]).values
    return int(np.isfinite(values).all(axis=0).sum()) if len(values) else 0


def _download(influx: Influx, bucket: str, market: Market) -> Iterator[bytes]:
    """Yield the CSV of the values of the service's window, with the columns that tell whose they are and no others."""
    start, stop = (slot_time(slot).isoformat() for slot in (market.window.end - HOT_SLOTS, market.window.end))
    fields = " or ".join(f'r._field == "{measure}"' for measure in MEASURES)
    query = (
        f'from(bucket: "{bucket}") |> range(start: {start}, stop: {stop}) '
        f'|> filter(fn: (r) => r._measurement == "metric" and ({fields})) '
        '|> keep(columns: ["_time", "_value", "_field", "exchange", "pair"])'
    )
    body = json.dumps({"query": query, "type": "flux", "dialect": {"annotations": []}}).encode()
    headers = {**influx.headers, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{influx.url}/api/v2/query?org={ORG}", body, headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        while chunk := answer.read(1 << 20):
            yield chunk


def _answered(command: list[str]) -> float:
    """Return seconds from a process's start to the last of its output; it must be a success."""
    last = started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while os.read(process.stdout.fileno(), 1 << 16):
            last = time.perf_counter()
    if process.returncode:
        raise RuntimeError(f"{command} exited with {process.returncode}")
    return last - started


def _start_commands(options: Options, report: Report) -> None:
    """Time what people type: help, a check of a file, and questions to a service that is there."""
    with scratch() as folder:
        url = f"sqlite:{folder}/tickwatch.db"
        market = Market(3)
        load_store(url, market)
        rules = folder / "rules.yaml"
        default = subprocess.run([*TICKWATCH, "rules", "default"], check=True, capture_output=True, text=True)
        rules.write_text(default.stdout)
        with query_service(url) as server:
            asked = ["--server", server.address]
            commands = {
                _PRINT: [sys.executable, "-c", "print()"],
                "tickwatch --help": [*TICKWATCH, "--help"],
                "tickwatch rules check FILE": [*TICKWATCH, "rules", "check", str(rules)],
                "tickwatch list": [*TICKWATCH, "list", *asked],
                "tickwatch rank price": [*TICKWATCH, "rank", "price", *asked],
                "tickwatch history METRIC price": [*TICKWATCH, "history", market.metric(0), "price", *asked],
            }
            times: dict[str, list[float]] = {name: [] for name in commands}
            for turn in range(options.slow_rounds * 2 + 1):
                for name, command in commands.items():
                    seconds = _answered(command)
                    if turn:  # the first warms the page cache
                        times[name].append(seconds)
    slowest = max((name for name in commands if name != _PRINT), key=lambda name: Spread.of(times[name]).median)
    name = f"the slowest of the commands below, `{slowest}`, process start to its answer, seconds"
    report.goal(Goal(name, Bound.AT_MOST, _COMMAND_SECONDS, Spread.of(times[slowest]), "absolute"))
    rows = [[name, number(Spread.of(taken))] for name, taken in times.items()]
    note = "From process start to the last of its output; a query service with three metrics answers the questions."
    report.table(Table("A command's start", ["process", "seconds"], rows, note))
