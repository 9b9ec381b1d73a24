"""What each address answers, by real HTTP on real services."""

from __future__ import annotations

import numpy as np

from services.core.model import Measure, Series, Window
from tests.support.gateway import serve
from tests.support.query import LAST, make_market, make_store


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


async def test_the_dashboard_is_at_the_root() -> None:
    """`/` is a page that browsers may take scripts for from here alone, and never from within the page."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answer = await gateway.http.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
