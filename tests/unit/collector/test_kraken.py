"""How Kraken is asked: names, chunks, repetitions pair by pair, pages of trades."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from services.collector.exchanges.base import ExchangeOptions, Ticker
from services.collector.exchanges.kraken import KrakenExchange
from services.core.clock import ManualClock
from services.core.errors import ExchangeMalformedError, ExchangeRefusedError, ExchangeUnavailableError
from services.core.model import Slot, Window

NOW = 1_700_000_100.0
"""Ten seconds into slot END."""
END = Slot(int(NOW // 60))
UNKNOWN = "EQuery:Unknown asset pair"


class Venue:
    """A Kraken of some pairs: by altname, the key of its answers and its wsname."""

    def __init__(self, **pairs: tuple[str, str]) -> None:
        self.pairs = pairs
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.errors: dict[str, str] = {}
        """By call, an error to answer it with."""
        self.trades: list[list[Any]] = []
        self.page = 2
        """How many trades a page has."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer as Kraken does."""
        call = request.url.path.rsplit("/", 1)[1]
        query = dict(request.url.params)
        self.asked.append((call, query))
        names = query["pair"].split(",") if "pair" in query else list(self.pairs)
        if call in self.errors:
            body: dict[str, Any] = {"error": [self.errors[call]]}
        elif any(name not in self.pairs for name in names):
            body = {"error": [UNKNOWN]}
        else:
            body = {"error": [], "result": getattr(self, call)(names, query)}
        return httpx.Response(200, text=json.dumps(body))

    def calls(self, call: str) -> list[dict[str, str]]:
        """The queries of a call, in order."""
        return [query for asked, query in self.asked if asked == call]

    def AssetPairs(self, names: list[str], query: dict[str, str]) -> dict[str, Any]:  # noqa: N802  Kraken's name
        """As Kraken's."""
        return {self.pairs[name][0]: {"altname": name, "wsname": self.pairs[name][1]} for name in names}

    def Ticker(self, names: list[str], query: dict[str, str]) -> dict[str, Any]:  # noqa: N802  Kraken's name
        """As Kraken's."""
        return {self.pairs[name][0]: {"c": ["2.0", "1"], "v": ["1.0", "3.0"]} for name in names}

    def OHLC(self, names: list[str], query: dict[str, str]) -> dict[str, Any]:  # noqa: N802  Kraken's name
        """Candles that close at their number before the open one."""
        step = int(query["interval"])
        newest = END - END % step
        rows = [[(newest - i * step) * 60, "1", "1", "1", str(i + 1), "1", "1.0", 1] for i in range(719, -1, -1)]
        return {self.pairs[names[0]][0]: rows, "last": (newest - step) * 60}

    def Trades(self, names: list[str], query: dict[str, str]) -> dict[str, Any]:  # noqa: N802  Kraken's name
        """Trades from the cursor on, which may tell the one at the cursor again."""
        found = [trade for trade in self.trades if int(float(trade[2]) * 1e9) >= int(query["since"])][: self.page]
        last = str(int(float(found[-1][2]) * 1e9)) if found else query["since"]
        return {self.pairs[names[0]][0]: found, "last": last}


Opening = Callable[..., KrakenExchange]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that sleeping moves."""
    return ManualClock(NOW)


@pytest.fixture
async def opening(clock: ManualClock) -> AsyncIterator[Opening]:
    """Open Kraken on a venue; clients are closed at the end."""
    clients: list[httpx.AsyncClient] = []

    def make(venue: Venue) -> KrakenExchange:
        clients.append(httpx.AsyncClient(transport=httpx.MockTransport(venue)))
        return KrakenExchange(ExchangeOptions(burst=1000, calls_per_second=1000), clock, clients[-1])

    yield make
    for client in clients:
        await client.aclose()


BTC = {"XBTUSD": ("XXBTZUSD", "XBT/USD")}
ETH = {"ETHUSD": ("XETHZUSD", "ETH/USD")}


async def test_many_pairs_are_asked_for_fifty_at_a_time(opening: Opening) -> None:
    """More in one call have been answered with HTTP 520."""
    names = [f"T{i:03}USD" for i in range(120)]
    venue = Venue(**{name: (name, f"T{i:03}/USD") for i, name in enumerate(names)})

    sample = await opening(venue).sample(names)

    assert set(names) == set(sample.tickers)
    assert [50, 50, 20] == [len(query["pair"].split(",")) for query in venue.calls("Ticker")]
    assert [50, 50, 20] == [len(query["pair"].split(",")) for query in venue.calls("AssetPairs")]


async def test_one_unknown_pair_spoils_its_chunk_only_once(opening: Opening) -> None:
    """The chunk's pairs are asked for singly, and the unknown one keeps Kraken's words."""
    venue = Venue(**BTC, **ETH)

    sample = await opening(venue).sample(["BTCUSD", "NOSUCHUSD", "ETHUSD"])

    assert {"BTCUSD": Ticker(2.0, 3.0), "ETHUSD": Ticker(2.0, 3.0)} == sample.tickers
    assert {"NOSUCHUSD": UNKNOWN} == {pair: error.words for pair, error in sample.failures.items()}
    assert isinstance(sample.failures["NOSUCHUSD"], ExchangeRefusedError)
    assert ["XBTUSD,NOSUCHUSD,ETHUSD", "XBTUSD", "NOSUCHUSD", "ETHUSD"] == [q["pair"] for q in venue.calls("Ticker")]


async def test_names_that_are_not_guessed_right_are_looked_up(opening: Opening) -> None:
    """USDTZUSD follows no rule, and a pair may have been given another altname altogether."""
    venue = Venue(USDTUSD=("USDTZUSD", "USDT/USD"), LUNA2USD=("LUNA2USD", "LUNA/USD"))
    exchange = opening(venue)

    sample = await exchange.sample(["USDTUSD", "LUNAUSD"])

    assert {"USDTUSD", "LUNAUSD"} == set(sample.tickers)
    assert {} == dict(sample.failures)
    assert 60 == len((await exchange.candles("LUNAUSD", Window.ending(END, 60))).slots)


async def test_a_single_question_looks_the_name_up_too(opening: Opening) -> None:
    """A late run asks for no sample, and candles are what it lives on."""
    venue = Venue(LUNA2USD=("LUNA2USD", "LUNA/USD"))
    assert 60 == len((await opening(venue).candles("LUNAUSD", Window.ending(END, 60))).slots)
    assert ["LUNAUSD", "LUNA2USD"] == [query["pair"] for query in venue.calls("OHLC")]


async def test_names_are_looked_up_once_a_day(opening: Opening, clock: ManualClock) -> None:
    """Between times they are remembered, and a failed look-up is tried again at the next run."""
    venue = Venue(**BTC)
    exchange = opening(venue)
    venue.errors["AssetPairs"] = "EGeneral:Unknown method"
    assert ("AssetPairs: EGeneral:Unknown method",) == (await exchange.sample(["BTCUSD"])).remarks
    del venue.errors["AssetPairs"]
    venue.asked.clear()
    for _ in range(3):
        await exchange.sample(["BTCUSD"])
    assert 1 == len(venue.calls("AssetPairs"))
    clock.advance(86_400)
    await exchange.sample(["BTCUSD"])
    assert 2 == len(venue.calls("AssetPairs"))


async def test_an_answer_about_another_pair_is_not_taken(opening: Opening) -> None:
    """However it came about."""
    venue = Venue(XBTUSD=("XETHZUSD", "ETH/USD"))
    sample = await opening(venue).sample(["BTCUSD"])
    assert {} == dict(sample.tickers)
    assert isinstance(sample.failures["BTCUSD"], ExchangeMalformedError)
    assert "answered about XETHZUSD" == sample.failures["BTCUSD"].words


async def test_a_throttle_is_kept_until_the_moment_it_names(opening: Opening, clock: ManualClock) -> None:
    """`EService:Throttled: <time>` is when to come back; nobody calls before."""
    venue = Venue(**BTC)
    venue.errors["OHLC"] = f"EService:Throttled: {int(NOW) + 300}"
    exchange = opening(venue)
    for _ in range(2):
        with pytest.raises(ExchangeUnavailableError) as throttled:
            await exchange.candles("BTCUSD", Window.ending(END, 60))
        assert 300 == throttled.value.retry_after_seconds
        assert throttled.value.pair == "BTCUSD"
    assert 1 == len(venue.calls("OHLC"))


async def test_prices_of_a_day_before_come_from_the_shortest_candles_that_reach(opening: Opening) -> None:
    """Five minutes reach sixty hours, fifteen a week, sixty a month."""
    venue = Venue(**BTC)
    exchange = opening(venue)
    for days in (1, 5, 20):
        await exchange.coarse_closes("BTCUSD", Window(Slot(END - days * 1440), Slot(END - days * 1440 + 60)))
    assert ["5", "15", "60"] == [query["interval"] for query in venue.calls("OHLC")]


def trade(minute: int, second: str, price: str, identity: int) -> list[Any]:
    """A trade of a minute counted from 100 before END."""
    return [price, "1.0", f"{(END - 100 + minute) * 60 + float(second):.9f}", "b", "l", "", identity]


async def test_pages_of_trades_are_joined(opening: Opening) -> None:
    """A trade that two pages tell counts once, and the last minutes are those of the last page."""
    venue = Venue(**BTC)
    # The longer candles begin 100 minutes before END at a multiple of five when END is one.
    start = END - END % 5 - 100
    offset = start - (END - 100)
    venue.trades = [
        trade(offset + m, s, p, n)
        for n, (m, s, p) in enumerate([(0, "1", "5"), (0, "2", "6"), (1, "3", "7"), (4, "0", "8"), (12, "0", "9")])
    ]
    window = Window(Slot(start), Slot(start + 10))

    pieces = [piece async for piece in opening(venue).older_candles("BTCUSD", window)]

    told = {int(s) - start: (c, v) for p in pieces for s, c, v in zip(p.slots, p.closes, p.volumes, strict=True)}
    assert {0: (6.0, 2.0), 1: (7.0, 1.0), 2: (7.0, 0.0), 3: (7.0, 0.0), 4: (8.0, 1.0)} == {m: told[m] for m in range(5)}
    assert dict.fromkeys(range(5, 10), (8.0, 0.0)) == {m: told[m] for m in range(5, 10)}
    cursors = [int(query["since"]) for query in venue.calls("Trades")]
    assert cursors == sorted(cursors)
    assert f"{start * 60 * 10**9 - 1}" == venue.calls("Trades")[0]["since"]


async def test_trades_that_end_before_the_window_end_it(opening: Opening) -> None:
    """A market that has gone quiet for good is quiet to the window's end, and paging stops."""
    venue = Venue(**BTC)
    start = END - END % 5 - 100
    venue.trades = [trade(start - (END - 100), "1", "5", 1)]
    window = Window(Slot(start), Slot(start + 60))

    pieces = [piece async for piece in opening(venue).older_candles("BTCUSD", window)]

    assert window.end == pieces[-1].window.end
    assert 60 == sum(len(piece.slots) for piece in pieces)
    assert 2 == len(venue.calls("Trades"))
