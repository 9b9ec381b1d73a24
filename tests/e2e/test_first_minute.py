"""A newcomer's first minute: `tickwatch up` with the simulated market, and the page it names, opened by a browser."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import expect

from tests.support import commands
from tests.support.browsing import Viewer

UP = r"Tickwatch is at (http://[\d.:]+)"
NOWHERE = {f"TICKWATCH_{role}__LISTEN": "127.0.0.1:0" for role in ("QUERY", "ALERTER", "GATEWAY")}


async def test_the_first_load_shows_a_day_a_ranking_and_what_would_breach(viewer: Viewer, tmp_path: Path):
    """Opened as soon as its address is printed, the page fills by itself: a ranking, a day of prices, a rule to try."""
    settings = NOWHERE | {"TICKWATCH_STORE": f"sqlite:{tmp_path}/tickwatch.db"}
    with commands.running("up", "--exchange", "simulated", announces=UP, settings=settings) as service:
        await viewer.open(service.address)
        await viewer.settled("SIM:BTCUSD")
        await expect(viewer.cell("SIM:ETHUSD", "stddev")).to_have_text(re.compile(r"\d"))
        assert {"SIM:BTCUSD", "SIM:ETHUSD", "SIM:XRPUSD"} == set(await viewer.rows())
        await expect(viewer.text(".chip")).to_have_attribute("data-state", "fresh")
        # The last minutes are there at once; the rest of the day arrives while one looks.
        await expect(viewer.text("#coverage")).to_contain_text(re.compile(r"1,4\d\d of 1,440"))

        await viewer.page.get_by_role("radio", name="Vol 1 min", exact=True).click()
        await viewer.page.get_by_role("button", name="Try on 24 h").click()
        await expect(viewer.text("#trial-figures")).to_contain_text(re.compile(r"would breach1[0-9]{2}"))
        await expect(viewer.text("#trial-hours .hour")).to_have_count(24)
        assert [] == viewer.complaints
