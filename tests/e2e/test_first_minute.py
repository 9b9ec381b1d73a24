"""A newcomer's first minute: `tickwatch up` with the simulated market, and the page it names, opened by a browser."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import httpx
from playwright.async_api import expect

from tests.support import commands
from tests.support.browsing import Viewer

UP = r"Tickwatch is at (http://[\d.:]+)"
MANY = re.compile(r"^1?\d\d$")
NOWHERE = {f"TICKWATCH_{role}__LISTEN": "127.0.0.1:0" for role in ("QUERY", "ALERTER", "GATEWAY")}


async def test_the_first_load_shows_a_day_a_ranking_and_its_breaches(viewer: Viewer, tmp_path: Path):
    """Opened as soon as its address is printed, the page fills by itself: ranking, a day of prices and of breaches."""
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
        # The last day's breaches are known from the start: in the feed, by the measure, and on the chart.
        await expect(viewer.page.locator("#feed li.breach").nth(100)).to_be_attached()
        await expect(viewer.page.locator("#measures [value=volume_1m]")).to_have_attribute("data-count", MANY)
        await viewer.settled("SIM:BTCUSD")
        await expect(viewer.text("#marks")).to_have_attribute("aria-valuemax", MANY)
        await hover_over_the_newest_mark(viewer)
        await expect(viewer.text("#evidence")).to_contain_text("three-times-the-hour")

        await viewer.page.get_by_role("button", name="Try on 24 h").click()
        await expect(viewer.text("#trial-figures")).to_contain_text(re.compile(r"would breach1[0-9]{2}"))
        await expect(viewer.text("#trial-hours .hour")).to_have_count(24)
        # A machine that is busy may be asked before it has rules, which a browser tells of as it does of a failure.
        assert [] == [words for words in viewer.complaints if "status of 503" not in words]


NEW = """(since) => [...document.querySelectorAll('#feed li.fresh.breach')]
  .find((row) => row.querySelector('time').dateTime >= since)?.dataset.id"""


async def test_a_breach_comes_while_one_looks(viewer: Viewer, tmp_path: Path):
    """A breach of a minute that ends while the page is open comes to the feed, and to its chart with its evidence.

    Of sixty simulated pairs some have a burst in every minute.
    """
    pairs = ", ".join(f"{letter}{other}XUSD" for letter in "ABCDEF" for other in "ABCDEFGHIJ")
    (tmp_path / "catalog.yaml").write_text(f"markets:\n  - exchange: SIM\n    pairs: [{pairs}]\n")
    settings = NOWHERE | {
        "TICKWATCH_STORE": f"sqlite:{tmp_path}/tickwatch.db",
        "TICKWATCH_CATALOG": f"{tmp_path}/catalog.yaml",
    }
    with commands.running("up", "--exchange", "simulated", announces=UP, settings=settings) as service:
        # A day of sixty pairs takes some seconds, in which there are no rules yet; what is looked at here comes later.
        rules = f"{service.address}/v1/rules"
        commands.until(lambda: httpx.get(rules, timeout=120).status_code, lambda status: status == httpx.codes.OK)
        await viewer.open(service.address)
        opened = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M")
        found = await viewer.page.wait_for_function(NEW, arg=opened, timeout=240_000)
        row = viewer.text(f'#feed li[data-id="{await found.json_value()}"]')
        name = await row.locator(".feed-name").inner_text()
        assert "XUSD" in name, f"{name} is not of the catalog"
        await row.locator("button").click()

        await viewer.settled(name)
        await expect(viewer.text("#marks")).to_have_attribute("aria-valuetext", re.compile(name))
        evidence = viewer.text("#evidence")
        for words in ("three-times-the-hour", "Ratio", "Threshold", "Mean of 60 points"):
            await expect(evidence).to_contain_text(words)
        await viewer.page.mouse.move(5, 5)
        await viewer.page.keyboard.press("Escape")
        await expect(evidence).to_be_hidden()
        await hover_over_the_newest_mark(viewer)
        await expect(evidence).to_contain_text("three-times-the-hour")
        assert [] == viewer.complaints


async def hover_over_the_newest_mark(viewer: Viewer) -> None:
    """Move the pointer along the right end of the plot until it is on a mark."""
    box = await viewer.text(".u-over").bounding_box()
    assert box is not None
    evidence = viewer.text("#evidence")
    for x in range(int(box["x"] + box["width"]) - 1, int(box["x"] + box["width"] * 0.9), -4):
        for y in range(int(box["y"]), int(box["y"] + box["height"]), 6):
            await viewer.page.mouse.move(x, y)
            if await evidence.is_visible():
                return
