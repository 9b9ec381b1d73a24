"""Kraken's recorded answers, read where they lie: every format the collector relies on was once sent like this."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest

from services.collector.exchanges import kraken_format
from services.collector.exchanges.base import ExchangeOptions, Ticker
from services.collector.exchanges.kraken import KrakenExchange
from services.core.clock import ManualClock
from services.core.errors import ExchangeRefusedError, ExchangeUnavailableError
from services.core.model import Metric, Slot, Window, slot_time
from tests.support.exchanges import recorded_body

MULTI = "ticker_multi_3pairs_and_assetpairs_20200714.vcr.yaml"
ASSET_PAIRS = {
    "2020-01": lambda: recorded_body("ohlc_1m_XXBTZEUR_20200127.vcr.yaml.gz", "AssetPairs"),
    "2020-07": lambda: recorded_body(MULTI, "AssetPairs"),
    "2021-04": lambda: (
        recorded_body("http_assetpairs_and_config_20210417.cryptofeed.txt.gz").splitlines()[0].split(": ", 1)[1]
    ),
}


def recorded_exchange(now: float, **bodies: str) -> tuple[KrakenExchange, list[httpx.Request]]:
    """Kraken on a transport that answers each call with one recorded body, and what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, text=bodies[request.url.path.rsplit("/", 1)[1]])

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    options = ExchangeOptions(burst=1000, calls_per_second=1000, retry_seconds=0.01)
    return KrakenExchange(options, ManualClock(now), client), asked


async def test_one_call_samples_many_pairs() -> None:
    """XETHZCAD, XTZXBT and XXBTZEUR are ETHCAD, XTZBTC and BTCEUR; `c[0]` and `v[1]` count, not `v[0]` or `o`."""
    bodies = {"AssetPairs": recorded_body(MULTI, "AssetPairs"), "Ticker": recorded_body(MULTI, "Ticker")}
    exchange, asked = recorded_exchange(1_594_732_620.0, **bodies)

    sample = await exchange.sample(["ETHCAD", "XTZBTC", "BTCEUR"])

    assert {
        "ETHCAD": Ticker(325.03, 163.99749136),
        "XTZBTC": Ticker(0.000312, 472491.29930552),
        "BTCEUR": Ticker(8120.7, 4340.09553873),
    } == sample.tickers
    tickers = [request for request in asked if request.url.path.endswith("Ticker")]
    assert ["ETHCAD,XTZXBT,XBTEUR"] == [request.url.params["pair"] for request in tickers]


@pytest.mark.parametrize(
    ("name", "pair", "expected"),
    [
        ("ticker_XXBTZEUR_20200207.vcr.yaml", "BTCEUR", Ticker(8943.8, 4922.48052255)),
        ("ticker_BCHEUR_20171003.vcr.yml", "BCHEUR", Ticker(355.4, 4433.77288826)),
        ("ticker_XBTUSDT_202511.json", "BTCUSDT", Ticker(105899.4, 163.28908096)),
    ],
)
async def test_tickers_of_eight_years(name: str, pair: str, expected: Ticker) -> None:
    """The format has stayed; names are guessed right where AssetPairs tells nothing."""
    exchange, _ = recorded_exchange(
        1_600_000_000.0, Ticker=recorded_body(name, "Ticker"), AssetPairs='{"error":["EGeneral:Unknown method"]}'
    )

    sample = await exchange.sample([pair])

    assert {pair: expected} == sample.tickers
    assert ("AssetPairs: EGeneral:Unknown method",) == sample.remarks


@pytest.mark.parametrize(
    ("name", "pair", "count", "first", "newest"),
    [
        ("ohlc_1m_XXBTZUSD_20170810.json.gz", "BTCUSD", 719, (3449.999, 1.012), "2017-08-11 10:00"),
        ("ohlc_1m_XXBTZEUR_20200127.vcr.yaml.gz", "BTCEUR", 719, None, "2020-01-27 18:18"),
        ("ohlc_1m_XBTUSDT_20251110.json.gz", "BTCUSDT", 720, (106038.2, 0.0), "2025-11-11 00:16"),
    ],
)
async def test_candles_of_eight_years(
    name: str, pair: str, count: int, first: tuple[float, float] | None, newest: str
) -> None:
    """The open candle is dropped, minutes without trades are candles of volume 0, and no minute is skipped."""
    body = recorded_body(name, "OHLC")
    last = Slot(json.loads(body)["result"]["last"] // 60)
    exchange, _ = recorded_exchange((last + 1) * 60 + 5.0, OHLC=body)

    candles = await exchange.candles(pair, Window.ending(last + 10, 2000))

    assert count == len(candles.slots) == len(candles.window)
    assert newest == f"{slot_time(int(candles.slots[-1])):%Y-%m-%d %H:%M}"
    assert last + 1 == candles.window.end
    if first:
        assert first == (candles.closes[0], candles.volumes[0])


async def test_a_minute_without_trades_keeps_the_close_before_it() -> None:
    """Kraken's own candles show it so; the rebuilding of older ones relies on it."""
    result = json.loads(recorded_body("ohlc_1m_XBTUSDT_20251110.json.gz"))["result"]
    candles, _ = kraken_format.read_candles(result, "BTCUSDT")

    quiet = [(before, candle) for before, candle in itertools.pairwise(candles) if candle.count == 0]
    assert len(quiet) > 200
    assert all(candle.volume == 0.0 and candle.close == before.close for before, candle in quiet)


@pytest.mark.parametrize("year", ASSET_PAIRS)
def test_names_are_ours_and_guessed_right(year: str) -> None:
    """Every listed pair has a name that is a metric's, no two share one, and our guess is what Kraken calls it."""
    result: dict[str, Any] = json.loads(ASSET_PAIRS[year](), parse_float=str)["result"]
    listed = kraken_format.read_asset_pairs(result)

    assert len(listed) > 100
    assert len({entry.pair for entry in listed}) == len(listed)
    for entry in listed:
        Metric.parse(f"KRAKEN:{entry.pair}")
        assert entry.altname == kraken_format.guessed_altname(entry.pair)
        if entry.key != "USDTZUSD":  # the one old name that follows no rule: AssetPairs has to be asked
            assert entry.altname == kraken_format.altname_of_key(entry.key)


@pytest.mark.parametrize(
    ("name", "kind", "words", "after"),
    [
        (
            "error_EGeneral_invalid_arguments_20191125.vcr.yaml",
            ExchangeRefusedError,
            "EGeneral:Invalid arguments",
            None,
        ),
        ("errors_transcribed/EQuery_unknown_asset_pair.json", ExchangeRefusedError, "EQuery:Unknown asset pair", None),
        ("errors_transcribed/EAPI_rate_limit_exceeded.json", ExchangeUnavailableError, "EAPI:Rate limit exceeded", 2.0),
        ("errors_transcribed/EService_unavailable.json", ExchangeUnavailableError, "EService:Unavailable", None),
    ],
)
def test_errors_come_with_http_200(
    name: str, kind: type[ExchangeRefusedError | ExchangeUnavailableError], words: str, after: float | None
) -> None:
    """They are told apart by what the caller can do, and keep Kraken's words."""
    with pytest.raises(kind) as failed:
        kraken_format.read_answer(json.loads(recorded_body(name)))
    assert words == failed.value.words
    assert after == getattr(failed.value, "retry_after_seconds", None)
