"""The main job end to end, by the real commands: collect, store, answer, and agree with an independent calculation.

The exchange serves recorded market data over HTTP as Kraken would; each test runs once on SQLite and once on InfluxDB.
"""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pytest
import tickwatch
from influxdb_client.client.influxdb_client import InfluxDBClient

from tests.support import buckets, commands
from tests.support.exchanges import RunningExchange, running_exchange
from tests.support.needs import InfluxDB, require_influxdb, require_program

PAIRS = {"BTCUSD": "XBTUSD", "ETHUSD": "ETHUSD", "XRPUSD": "XRPUSD"}
GAPS = ("--gap", "kraken:BTC/USD@-300:-240", "--gap", "kraken:ETH/USD@-1000:-940")
"""One within the reach of Kraken's candles, one beyond it."""


class Place(NamedTuple):
    """Where a test's points are kept, and the settings that say so."""

    settings: Mapping[str, str]
    influxdb: InfluxDB | None
    bucket: str


@pytest.fixture(params=["sqlite", "influxdb"])
def place(request, tmp_path) -> Iterator[Place]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        yield Place({"TICKWATCH_STORE": f"sqlite:{tmp_path}/tickwatch.db"}, None, "")
        return
    influxdb = require_influxdb()
    with buckets.own_bucket(influxdb) as bucket:
        url = buckets.store_url(influxdb, bucket)
        yield Place({"TICKWATCH_STORE": url, "INFLUXDB_V2_TOKEN": influxdb.token}, influxdb, bucket)


def candles_of(exchange: RunningExchange, code: str) -> dict[int, float]:
    """Ask the exchange for the closes of its complete minute candles, by slot; the last row is the open candle."""
    result = exchange.kraken("OHLC", pair=code, interval=1)
    (rows,) = (value for name, value in result.items() if name != "last")
    return {row[0] // 60: float(row[4]) for row in rows[:-1]}


def trades_of(exchange: RunningExchange, code: str, first_slot: int) -> dict[int, float]:
    """Page through the exchange's trades and return the last price of each minute that traded, by slot."""
    closes: dict[int, float] = {}
    since = str(first_slot * 60 * 10**9)
    while True:
        result = exchange.kraken("Trades", pair=code, since=since)
        (rows,) = (value for name, value in result.items() if name != "last")
        closes.update({int(row[2]) // 60: float(row[0]) for row in rows})
        if result["last"] == since or not rows:
            return closes
        since = result["last"]


def flux_stddev(place: Place, start: int, stop: int) -> dict[str, float]:
    """Let InfluxDB itself compute the sample standard deviation of each metric's prices."""
    assert place.influxdb is not None
    query = (
        f'from(bucket: "{place.bucket}") |> range(start: {start * 60}, stop: {stop * 60})'
        ' |> filter(fn: (r) => r._measurement == "metric" and r._field == "price") |> stddev()'
    )
    with InfluxDBClient(place.influxdb.url, place.influxdb.token, org=place.influxdb.org) as client:
        records = [record for table in client.query_api().query(query) for record in table.records]
    return {f"{record['exchange']}:{record['pair']}": record["_value"] for record in records}


async def test_collect_store_and_answer_agree_with_the_exchange(place):
    """Backfilled and collected, the day that the service answers is the exchange's own, ranked as the store would."""
    with running_exchange(*GAPS) as exchange:
        settings = {
            **place.settings,
            "TICKWATCH_EXCHANGES__KRAKEN__BASE_URL": exchange.url,
            "TICKWATCH_EXCHANGES__KRAKEN__CALLS_PER_SECOND": "1000",
        }
        filled = commands.tickwatch("backfill", "--since", "24h", settings=settings)
        assert (filled.returncode, filled.stderr) == (0, filled.stderr), filled.stderr
        minute = int(time.time()) // 60
        for at in (minute - 2, minute - 1, minute):
            moment = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(at * 60))
            run = commands.tickwatch("collect", "--at", moment, settings=settings)
            assert run.returncode == 0, run.stdout + run.stderr
        candles = {pair: candles_of(exchange, code) for pair, code in PAIRS.items()}
        trades = {pair: trades_of(exchange, code, minute - 1440) for pair, code in PAIRS.items()}

    listening = r"listening on ([\d.]+:\d+)"
    with commands.running("query", "--listen", "127.0.0.1:0", announces=listening, settings=settings) as service:
        async with tickwatch.Client(service.address) as client:
            names = [metric.name async for metric in client.list_metrics()]
            histories = {pair: await client.get_history(f"KRAKEN:{pair}", "price") for pair in PAIRS}
            ranked = await client.rank_metrics("price")
        by_reflection = [
            grpcurl(service.address, "list"),
            grpcurl(service.address, "tickwatch.v1.QueryService/RankMetrics", {"measure": "MEASURE_PRICE"}),
        ]
        assert service.stop() == 0

    assert names == ["KRAKEN:BTCUSD", "KRAKEN:ETHUSD", "KRAKEN:XRPUSD"]
    start = minute - 1440
    for pair, history in histories.items():
        assert (len(history.values), history.start.timestamp()) == (1440, start * 60)
        expected = {slot: value for slot, value in trades[pair].items() if start <= slot < minute}
        oldest_candle = min(candles[pair])
        expected = {slot: value for slot, value in expected.items() if slot < oldest_candle}
        expected |= {slot: value for slot, value in candles[pair].items() if start <= slot < minute}
        told = {start + int(i): float(history.values[i]) for i in np.flatnonzero(~np.isnan(history.values))}
        # Before the reach of the candles a quiet minute may stand as a candle of volume 0 at the close before it.
        quiet = {slot for slot in told.keys() - expected.keys() if slot < oldest_candle}
        assert expected == {slot: value for slot, value in told.items() if slot not in quiet}
        assert all(told[slot] == told[slot - 1] for slot in quiet if slot - 1 in told)
    assert np.isnan(histories["BTCUSD"].values[-300:-240]).sum() >= 55
    assert np.isnan(histories["ETHUSD"].values[-1000:-945]).sum() >= 50

    assert ([r.rank for r in ranked.rankings], ranked.ranked_count) == ([1, 2, 3], 3)
    if place.influxdb is not None:
        reference = flux_stddev(place, start, minute)
    else:
        reference = {
            f"KRAKEN:{pair}": float(np.std(history.values[~np.isnan(history.values)], ddof=1))
            for pair, history in histories.items()
        }
    assert [r.metric for r in ranked.rankings] == sorted(reference, key=lambda name: -reference[name])
    for ranking in ranked.rankings:
        assert math.isclose(ranking.value, reference[ranking.metric], rel_tol=1e-9)

    services, answer = by_reflection
    assert "tickwatch.v1.QueryService" in services
    assert [r["metric"] for r in json.loads(answer)["rankings"]] == [r.metric for r in ranked.rankings]


def grpcurl(address: str, *words: str | Mapping[str, str]) -> str:
    """Ask the service as the README tells a newcomer, without knowing the contract."""
    *names, body = (*words, {}) if isinstance(words[-1], str) else words
    data = ["-d", json.dumps(body)] if body else []
    command = [str(require_program("grpcurl")), "-plaintext", *data, address, *(str(name) for name in names)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
