"""What each address answers, by real HTTP on real services."""

from __future__ import annotations

import csv
import io

import numpy as np

from services.core.model import Measure, Series, Window, slot_time
from tests.support.alerter import LogWriter, many
from tests.support.gateway import reason, serve
from tests.support.query import LAST, make_market, make_store, names


def utc(slot: int) -> str:
    """Return a slot's start as the gateway writes it."""
    return f"{slot_time(slot):%Y-%m-%dT%H:%M:%SZ}"


async def test_history_has_null_where_there_is_no_point() -> None:
    """A history is 1440 values that equal the store's, bit for bit, with null and nothing else for a missing one."""
    market = make_market(["SIM:AAA"], holes=0.1)
    async with serve(make_store(market)) as gateway:
        answer = await gateway.http.get("/v1/metrics/SIM:AAA/price/history")
    history = answer.json()

    expected = market.expected(Series("SIM:AAA", Measure.PRICE), Window.ending(LAST + 1))
    assert answer.headers["content-type"] == "application/json"
    assert history["values"] == [None if np.isnan(value) else value for value in expected.tolist()]
    assert None in history["values"]
    assert (history["metric"], history["measure"], history["interval"]) == ("SIM:AAA", "price", "60s")
    assert history["start_time"] == utc(LAST + 1 - 1440)


async def test_a_part_of_a_history() -> None:
    """Times, interval and aggregation mean what they mean in gRPC, times without seconds and durations in words too."""
    market = make_market(["SIM:AAA"])
    values = market.expected(Series("SIM:AAA", Measure.PRICE), Window.ending(LAST + 1, 60)).reshape(4, 15)
    asked = {"start_time": f"{slot_time(LAST - 59):%Y-%m-%dT%H:%MZ}", "end_time": utc(LAST + 1), "interval": "15m"}
    async with serve(make_store(market)) as gateway:
        address = "/v1/metrics/SIM:AAA/price/history"
        highest = (await gateway.http.get(address, params={**asked, "aggregation": "max"})).json()
        same = await gateway.http.get(address, params={**asked, "interval": "900s", "aggregation": "max"})

    assert highest["values"] == values.max(axis=1).tolist()
    assert highest == same.json()


async def test_times_as_others_write_them() -> None:
    """RFC 3339 allows for small letters, fractions of a second as protobuf writes them, and other zones."""
    start = slot_time(LAST - 59)
    spellings = [
        f"{start:%Y-%m-%dT%H:%MZ}",
        f"{start:%Y-%m-%dt%H:%M:%Sz}",
        f"{start:%Y-%m-%dT%H:%M:%S}.000000000Z",
        f"{start:%Y-%m-%dT%H:%M:%S}-00:00",
        f"{slot_time(LAST + 1):%Y-%m-%dT%H:%M:%S}+01:00",
    ]
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answers = [
            await gateway.http.get("/v1/metrics/SIM:AAA/price/history", params={"start_time": spelling})
            for spelling in spellings
        ]

    assert {answer.json()["start_time"] for answer in answers} == {utc(LAST - 59)}


async def test_history_as_csv() -> None:
    """`Accept: text/csv` gives a line a minute, in the columns of `tickwatch history --output csv`."""
    market = make_market(["SIM:AAA"], holes=0.1)
    async with serve(make_store(market)) as gateway:
        address = "/v1/metrics/SIM:AAA/price/history"
        answer = await gateway.http.get(address, headers={"Accept": "text/csv"})
        as_json = (await gateway.http.get(address)).json()
    rows = list(csv.DictReader(io.StringIO(answer.text)))

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert rows[0].keys() == {"time", "value"}
    assert [float(row["value"]) if row["value"] else None for row in rows] == as_json["values"]
    assert (rows[0]["time"], rows[-1]["time"]) == (as_json["start_time"], utc(LAST))


async def test_rankings() -> None:
    """All metrics are ranked, as JSON or as CSV, or as many as were asked for."""
    async with serve(make_store(make_market(names(1500), slots=3, measures=[Measure.PRICE]))) as gateway:
        asked = {"window": "3m"}
        ranked = (await gateway.http.get("/v1/rankings/price", params=asked)).json()
        best = (await gateway.http.get("/v1/rankings/price", params={**asked, "limit": 5})).json()
        as_csv = await gateway.http.get("/v1/rankings/price", params=asked, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(as_csv.text)))

    assert [place["rank"] for place in ranked["rankings"]] == list(range(1, 1501))
    assert best["rankings"] == ranked["rankings"][:5]
    assert best["ranked_count"] == 1500
    assert [(row["metric"], float(row["value"])) for row in rows] == [
        (place["metric"], place["value"]) for place in ranked["rankings"]
    ]


async def test_metrics_of_an_exchange() -> None:
    """Metrics come whole, by name, with what each measure has; `exchange` narrows them."""
    market = make_market([*names(1200), "OTHER:AAA"], slots=2)
    async with serve(make_store(market)) as gateway:
        everything = (await gateway.http.get("/v1/metrics")).json()["metrics"]
        others = (await gateway.http.get("/v1/metrics", params={"exchange": "OTHER"})).json()["metrics"]

    assert [metric["name"] for metric in everything] == ["OTHER:AAA", *names(1200)]
    assert [metric["name"] for metric in others] == ["OTHER:AAA"]
    (price, _) = others[0]["measures"]
    assert price == {
        "measure": "price",
        "last_time": utc(LAST),
        "last_value": market.values[Series("OTHER:AAA", Measure.PRICE)][-1],
        "point_count": 2,
        "coverage": 2 / 1440,
    }


async def test_breaches_come_in_pages() -> None:
    """Pages follow each other without a gap or a repetition, the newest first, and the last has no token."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store) as gateway:
        entries = LogWriter(store.breach_log).append(*many(25))
        found: list[str] = []
        token = ""
        while True:
            page = (await gateway.http.get("/v1/breaches", params={"page_size": 10, "page_token": token})).json()
            found += [event["id"] for event in page["events"]]
            if not (token := page["next_page_token"]):
                break
        one = (await gateway.http.get("/v1/breaches", params={"metrics": "SIM:P00003"})).json()["events"]
        forged = await gateway.http.get("/v1/breaches", params={"page_token": "forged"})

    assert found == [entry.event.id for entry in reversed(entries)]
    assert [event["metric"] for event in one] == ["SIM:P00003"]
    assert (forged.status_code, reason(forged)) == (400, "INVALID_PAGE_TOKEN")


async def test_the_original_addresses() -> None:
    """The three addresses of the original system answer, byte for byte, what the new ones do."""
    pairs = {
        "/pricetracker/metrics": "/v1/metrics",
        "/pricetracker/historicalprices?metric_name=SIM:AAA&measure_name=price": "/v1/metrics/SIM:AAA/price/history",
        "/pricetracker/metricsrank?measure_name=volume": "/v1/rankings/volume",
    }
    async with serve(make_store(make_market(["SIM:AAA", "SIM:BBB"], holes=0.1))) as gateway:
        for old, new in pairs.items():
            answers = [await gateway.http.get(address) for address in (old, new)]

            assert [answer.status_code for answer in answers] == [200, 200]
            assert answers[0].content == answers[1].content
        wrong = await gateway.http.get("/pricetracker/metricsrank")

    assert (wrong.status_code, reason(wrong)) == (400, "INVALID_FIELD")


async def test_the_original_addresses_take_what_the_original_took() -> None:
    """A parameter that the original system did not have was no error there, and is none here; a new address has it."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        old = await gateway.http.get("/pricetracker/metrics?_=1700000000000")
        new = await gateway.http.get("/v1/metrics?_=1700000000000")

    assert (old.status_code, new.status_code) == (200, 400)


async def test_the_dashboard_is_at_the_root() -> None:
    """`/` is a page that browsers may take scripts for from here alone, and never from within the page."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answer = await gateway.http.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
