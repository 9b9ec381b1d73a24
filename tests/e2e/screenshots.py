"""Takes the pictures in docs/images: `python -m tests.e2e.screenshots`, with Chromium and best with the font Inter.

Every picture is of the real page on real servers with the simulated market; none is retouched. Before they are
committed, `pngquant --force --ext .png docs/images/*.png` makes them a third as large.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import numpy as np
from playwright.async_api import Browser, expect

from services.core.model import DAY_SLOTS, Measure, Series, Slot
from tests.support.browsing import Viewer, open_browser
from tests.support.dashboard import Day, Desk, newest_slot, open_desk, simulated_day

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
BASES = "BTC ETH XRP SOL ADA DOGE DOT LTC LINK AVAX ATOM UNI ALGO XLM NEAR FIL AAVE ETC ICP TRX"
PAIRS = [f"{base}USD" for base in BASES.split()]
THOUSAND = [f"{a}{b}{c}USD" for a in "ABCDEFGHIJ" for b in "KLMNOPQRST" for c in "VWXYZBCDFG"]
DESK, PHONE = (1440, 860), (390, 844)

Scheme = Literal["dark", "light"]


async def market(pairs: list[str] = PAIRS) -> Day:
    """Return a day of the simulated market with an outage of half an hour in it, as a real day has."""
    day = await simulated_day(Slot(newest_slot() + 1), pairs)
    for values in day.values.values():
        values[430:462] = np.nan
    return day


async def shoot(
    browser: Browser,
    desk: Desk,
    name: str,
    *,
    at: str = "#SIM:ETHUSD/price",
    size: tuple[int, int] = DESK,
    scheme: Scheme = "dark",
    prepare: Callable[[Viewer], Awaitable[object]] | None = None,
) -> None:
    """Open the page, prepare it, and keep its picture."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        is_mobile=size is PHONE,
        has_touch=size is PHONE,
        reduced_motion="reduce",
        device_scale_factor=2 if size is PHONE else 1,
    )
    viewer = Viewer(await context.new_page())
    await viewer.open(f"{desk.url}/{at}")
    await viewer.page.wait_for_timeout(2_500)
    if prepare is not None:
        await prepare(viewer)
        await viewer.page.wait_for_timeout(800)
    await viewer.page.screenshot(path=IMAGES / f"{name}.png")
    sys.stdout.write(f"{name}.png\n")
    await context.close()


async def try_rule(viewer: Viewer) -> None:
    """Try a rule, then show the evidence of a breach of this morning."""
    await viewer.text("#factor").fill("4.5")
    await viewer.page.get_by_role("button", name="Try on 24 h").click()
    await expect(viewer.text("#trial-figures")).to_contain_text("would breach")
    await viewer.page.get_by_role("radio", name="6 h", exact=True).click()
    # The row of the feed shows its breach on the chart, as a pointer on the mark does.
    await viewer.page.locator("#feed li", has_text="SIM:ETHUSD").nth(2).locator("button").click()
    await viewer.text(".feed-scroll").evaluate("(feed) => feed.scrollTo(0, 0)")


async def tap(viewer: Viewer, view: str) -> None:
    """Choose a view of the phone."""
    await viewer.page.get_by_role("button", name=view, exact=True).tap()


async def main() -> None:
    """Take them all."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    async with open_browser() as browser:
        async with open_desk(await market()) as desk:
            await shoot(browser, desk, "dashboard", at="#SIM:ETHUSD/volume_1m", prepare=try_rule)
            await shoot(browser, desk, "dashboard-light", at="#SIM:BTCUSD/price", scheme="light")
            await shoot(browser, desk, "dashboard-phone-ranking", size=PHONE)
            await shoot(
                browser, desk, "dashboard-phone-chart", at="#SIM:BTCUSD/price", size=PHONE,
                prepare=lambda viewer: tap(viewer, "Chart"),
            )  # fmt: skip
        day = await market(PAIRS[:3])
        down = {
            Series(series.metric.replace("SIM", "KRAKEN"), series.measure): values[:-26]
            for series, values in day.values.items()
        }
        async with open_desk(day, Day(day.start, down)) as desk:
            await shoot(browser, desk, "dashboard-silent", at="#KRAKEN:BTCUSD/price")
        day = await simulated_day(Slot(newest_slot() + 1), THOUSAND)
        prices = {series: values for series, values in day.values.items() if series.measure is Measure.PRICE}
        hour = Day(Slot(day.start + DAY_SLOTS - 60), {series: values[-60:] for series, values in prices.items()})
        shown = Series(f"SIM:{THOUSAND[77]}", Measure.PRICE)
        async with open_desk(hour, Day(day.start, {shown: prices[shown]}), evaluated=12) as desk:
            await shoot(browser, desk, "dashboard-thousand", at=f"#{shown.metric}/price")
        async with open_desk() as desk:
            await shoot(browser, desk, "dashboard-empty", at="")


if __name__ == "__main__":
    asyncio.run(main())
