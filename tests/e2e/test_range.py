"""Which part of the day the chart shows, and the address that names it: zoom, spans, links, another clock, a finger."""

from __future__ import annotations

import datetime as dt
import re

from playwright.async_api import Browser, expect

from services.core.model import SLOT_SECONDS, Measure, Series, Slot
from tests.support.browsing import Viewer
from tests.support.dashboard import flat_day, newest_slot, open_desk, room_in_the_minute, simulated_day

BTC = "SIM:BTCUSD"


async def drag(viewer: Viewer, start: float, end: float) -> None:
    """Drag across the plot, from one share of its width to another."""
    box = await viewer.text(".u-over").bounding_box()
    assert box is not None
    mouse, y = viewer.page.mouse, box["y"] + box["height"] - 30
    await mouse.move(box["x"] + box["width"] * start, y)
    await mouse.down()
    await mouse.move(box["x"] + box["width"] * end, y, steps=4)
    await mouse.up()


def minute(slot: int) -> str:
    """Return a slot as the address has it."""
    return f"{dt.datetime.fromtimestamp(slot * SLOT_SECONDS, dt.UTC):%Y-%m-%dT%H:%MZ}"


async def test_a_zoom_is_told_kept_named_by_the_address_and_left(viewer: Viewer):
    """Dragging zooms: no span is chosen, a button says to what; measures and a reload keep it; the button ends it."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(f"{desk.url}/#{BTC}/price")
        await viewer.settled(BTC)
        reset, chosen = viewer.text("#zoom-reset"), viewer.page.locator("#spans [aria-checked=true]")
        await expect(reset).to_be_hidden()

        await drag(viewer, 0.25, 0.5)

        await expect(reset).to_have_text(re.compile(r"\d\d:\d\d . \d\d:\d\d"))
        await expect(chosen).to_have_count(0)
        told, address = await reset.inner_text(), viewer.page.url
        assert re.search(r"#SIM:BTCUSD/price/\d{4}-\d\d-\d\dT\d\d:\d\dZ\.\.\d{4}-\d\d-\d\dT\d\d:\d\dZ$", address)
        await viewer.page.get_by_role("radio", name="Vol 1 min", exact=True).click()
        await viewer.settled(BTC)
        await expect(reset).to_have_text(told)
        await viewer.page.goto("about:blank")
        await viewer.open(address)
        await viewer.settled(BTC)
        await expect(reset).to_have_text(told)
        await viewer.page.keyboard.press("Tab")
        await reset.click()
        await expect(reset).to_be_hidden()
        await expect(chosen).to_have_text("24 h")
        await expect(chosen).to_be_focused()
        assert viewer.page.url.endswith("#SIM:BTCUSD/price")


async def test_a_span_is_named_by_the_address(viewer: Viewer):
    """Six hours are six hours for whoever opens the link, also in a page that is open already."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(f"{desk.url}/#{BTC}/price")
        await viewer.settled(BTC)
        chosen = viewer.page.locator("#spans [aria-checked=true]")
        await viewer.page.get_by_role("radio", name="6 h", exact=True).click()
        assert viewer.page.url.endswith("#SIM:BTCUSD/price/6h")

        await viewer.page.goto(f"{desk.url}/#SIM:ETHUSD/volume/1h")

        await viewer.settled("SIM:ETHUSD")
        await expect(chosen).to_have_text("1 h")
        await expect(viewer.page.get_by_role("radio", name="Vol 24 h")).to_have_attribute("aria-checked", "true")


async def test_an_address_that_cannot_be_read_opens_the_first_of_the_ranking(viewer: Viewer):
    """Half a link is as good as none."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(f"{desk.url}/#%E0%A4%A")

        await viewer.settled(BTC)
        await expect(viewer.text("#notice")).to_be_hidden()


async def test_the_link_to_the_ranking_changes_nothing_that_is_shown(viewer: Viewer):
    """The page's own link past the bar moves the focus; what is drawn stays."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(f"{desk.url}/#SIM:ETHUSD/price/6h")
        await viewer.settled("SIM:ETHUSD")
        await viewer.text(".skip").focus()
        await viewer.page.keyboard.press("Enter")
        await viewer.page.wait_for_timeout(1_000)

        await viewer.settled("SIM:ETHUSD")
        await expect(viewer.page.locator("#spans [aria-checked=true]")).to_have_text("6 h")


async def test_a_breach_outside_the_zoom_is_brought_into_sight(viewer: Viewer):
    """Who zoomed to the morning and clicks a breach of the evening sees the evening."""
    day = flat_day(Slot(await room_in_the_minute(40) + 1), [BTC])
    day.values[Series(BTC, Measure.PRICE)][1400] = 500.0
    async with open_desk(day) as desk:
        await viewer.open(f"{desk.url}/#{BTC}/price/{minute(day.start + 300)}..{minute(day.start + 600)}")
        await viewer.settled(BTC)
        await expect(viewer.text("#zoom-reset")).to_be_visible()

        await viewer.page.locator("#feed li button").first.click()

        await expect(viewer.text("#evidence")).to_contain_text("500.000")
        await expect(viewer.text("#zoom-reset")).to_be_hidden()


async def test_what_the_day_has_left_behind_is_not_on_the_chart(viewer: Viewer):
    """A breach of yesterday says so in the feed, where its evidence can be had; marks are those of the day shown."""
    last = await room_in_the_minute(45)
    day = flat_day(last, [BTC], slots=1700)
    values = day.values[Series(BTC, Measure.PRICE)]
    values[[100, 1600]] = 500.0  # 26 hours ago, and an hour and a half
    async with open_desk(day, evaluated=1700) as desk:
        await viewer.open(f"{desk.url}/#{BTC}/price")
        await viewer.settled(BTC)
        rows = viewer.page.locator("#feed li")
        await expect(rows).to_have_count(2)
        await expect(viewer.text("#marks")).to_have_attribute("aria-valuemax", "1")

        await expect(rows.nth(0).locator("time")).to_have_text(re.compile(r"^\d\d:\d\d$"))
        await expect(rows.nth(1).locator("time")).to_have_text(re.compile(r"^\d+ [A-Z][a-z]+ \d\d:\d\d$"))
        await rows.nth(1).locator("button").click()
        await expect(viewer.text("#evidence")).to_contain_text("500.000")
        desk.write_value(BTC, Measure.PRICE, last, 450.0)
        await expect(rows).to_have_count(3)
        await expect(viewer.text("#evidence")).to_be_visible()


async def test_a_clock_that_is_wrong_makes_no_silence(viewer: Viewer):
    """On a laptop whose clock is ten minutes fast, fresh points are fresh, and the page tells the gateway's time."""
    await viewer.page.clock.install(time=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=10))
    await room_in_the_minute(40)
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)
        await viewer.page.wait_for_timeout(2_000)

        await expect(viewer.text(".chip")).to_have_attribute("data-state", "fresh")
        await expect(viewer.text("#notice")).to_be_hidden()
        await expect(viewer.text("#coverage")).to_contain_text("1,440 of 1,440")
        clock = await viewer.text("#clock").inner_text()
        assert clock[:5] in {f"{dt.datetime.now(dt.UTC) - dt.timedelta(minutes=ago):%H:%M}" for ago in (0, 1)}


async def test_a_finger_reads_the_chart(browser: Browser):
    """On a touch screen a finger that moves across the chart reads its points, as a pointer does."""
    context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        viewer = Viewer(await context.new_page())
        await viewer.open(f"{desk.url}/#{BTC}/price")
        await viewer.page.get_by_role("button", name="Chart", exact=True).tap()
        await viewer.settled(BTC)
        box = await viewer.text(".u-over").bounding_box()
        assert box is not None
        touch = await context.new_cdp_session(viewer.page)
        seen = set()
        for kind, share in (("touchStart", 0.2), ("touchMove", 0.4), ("touchMove", 0.6)):
            at = {"x": box["x"] + box["width"] * share, "y": box["y"] + 100}
            await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
            await viewer.page.wait_for_timeout(100)
            seen.add(await viewer.text("#readout .when").inner_text())
        await touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert [] == viewer.complaints
    await context.close()

    assert len(seen) == 3


async def test_a_series_is_saved_as_csv(viewer: Viewer):
    """The chart's day is one click from a spreadsheet."""
    day = flat_day(Slot(newest_slot() + 1), [BTC])
    async with open_desk(day) as desk:
        await viewer.open(f"{desk.url}/#{BTC}/price")
        await viewer.settled(BTC)
        async with viewer.page.expect_download() as download:
            await viewer.page.get_by_role("button", name="CSV", exact=True).click()
        saved = await download.value
        lines = (await saved.path()).read_text().splitlines()

    assert "SIM-BTCUSD-price.csv" == saved.suggested_filename
    assert "time,value" == lines[0]
    assert len(lines) == 1441
