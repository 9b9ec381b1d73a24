"""What happens while somebody looks: points, breaches, restarts, silence. Real servers, a real browser."""

from __future__ import annotations

import re
import sys

import numpy as np
from playwright.async_api import expect

from services.core.model import DAY_SLOTS, Measure, Series, Slot
from tests.support.browsing import Viewer
from tests.support.dashboard import flat_day, newest_slot, open_desk, room_in_the_minute, simulated_day

BTC = "SIM:BTCUSD"
PRICE = Series(BTC, Measure.PRICE)


async def test_a_live_update_reaches_table_chart_and_freshness(viewer: Viewer):
    """A point that is written while one looks shows in the table, on the chart and in the age, without a reload."""
    last = await room_in_the_minute()
    day = await simulated_day(Slot(last))
    async with open_desk(day) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)
        before = await viewer.cell(BTC, "last").inner_text()

        desk.write_value(BTC, Measure.PRICE, last, 71_234.5)

        await expect(viewer.cell(BTC, "last")).to_have_text("71,234.5")
        await expect(viewer.drawn()).to_have_attribute("aria-valuetext", re.compile("71,234.5"))
        await expect(viewer.text("#readout")).to_contain_text("71,234.5")
        await expect(viewer.page).to_have_title("71,234.5 BTCUSD · Tickwatch")
        await expect(viewer.text(".chip")).to_have_attribute("data-state", "fresh")
        assert before != "71,234.5"


async def test_a_breach_reaches_feed_and_chart_with_its_evidence(viewer: Viewer):
    """A breach comes in at the top of the feed, is marked on the chart, and says there what it was measured by."""
    last = await room_in_the_minute(30)
    async with open_desk(flat_day(last, [BTC])) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)
        await expect(viewer.text("#feed-empty")).to_be_visible()

        desk.write_value(BTC, Measure.PRICE, last, 450.0)

        row = viewer.page.locator("#feed li").first
        await expect(row).to_contain_text("SIM:BTCUSD")
        await expect(row).to_contain_text("4.50")
        await expect(viewer.text("#open-count")).to_have_text("1 open")
        await expect(viewer.cell(BTC, "open")).to_have_text("1")
        marks = viewer.text("#marks")
        await expect(marks).to_have_attribute("aria-valuemax", "1")

        await row.locator("button").click()

        evidence = viewer.text("#evidence")
        for words in ("three-times-the-hour", "warning", "450.000", "4.500", "of 60 points", "299.998"):
            await expect(evidence).to_contain_text(words)
        await viewer.page.keyboard.press("Escape")
        await expect(evidence).to_be_hidden()


async def test_evidence_shows_on_hover_and_on_focus(viewer: Viewer):
    """The evidence of a mark shows when the pointer is on it, and when the keyboard reaches it; arrows go on."""
    last = await room_in_the_minute(30)
    day = flat_day(Slot(last + 1), [BTC])
    for place in (600, 900):
        day.values[PRICE][place] = 500.0
    async with open_desk(day) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)
        marks, evidence = viewer.text("#marks"), viewer.text("#evidence")
        await expect(marks).to_have_attribute("aria-valuemax", "2")

        await marks.focus()
        await expect(evidence).to_contain_text("500.000")
        await expect(marks).to_have_attribute("aria-valuenow", "2")
        await viewer.page.keyboard.press("ArrowLeft")
        await expect(marks).to_have_attribute("aria-valuenow", "1")
        await expect(marks).to_have_attribute("aria-valuetext", re.compile(r"1 of 2: .*BTCUSD"))
        await viewer.page.locator("#search").focus()
        await expect(evidence).to_be_hidden()

        box = await viewer.text(".u-over").bounding_box()
        assert box is not None
        x = box["x"] + box["width"] * 600 / DAY_SLOTS
        # Somewhere below the top edge of the plot stands the mark over its spike.
        for y in range(int(box["y"]), int(box["y"] + box["height"] / 3), 4):
            await viewer.page.mouse.move(x, y)
            if await evidence.is_visible():
                break
        await expect(evidence).to_contain_text("500.000")


async def test_the_page_heals_after_a_restart(viewer: Viewer):
    """While the servers are gone the page says so and keeps what it knew; back again, it has what it missed."""
    last = await room_in_the_minute(40)
    async with open_desk(await simulated_day(Slot(last))) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)

        await desk.stop()
        await expect(viewer.text("#link")).not_to_have_text("Live")
        await expect(viewer.text("#notice")).to_contain_text("The gateway cannot be reached. What is shown is what was")
        await expect(viewer.cell(BTC, "last")).not_to_be_empty()
        desk.write_value(BTC, Measure.PRICE, last, 65_432.1)
        await desk.start()

        await expect(viewer.text("#link")).to_have_text("Live")
        await expect(viewer.text("#notice")).to_be_hidden()
        await expect(viewer.cell(BTC, "last")).to_have_text("65,432.1")
        await expect(viewer.drawn()).to_have_attribute("aria-valuetext", re.compile("65,432.1"))


async def test_streams_resume_after_the_laptop_slept(viewer: Viewer):
    """A machine that wakes up does not trust its old connections: it opens new ones, from where it was."""
    await viewer.page.clock.install()
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)
        await viewer.page.wait_for_timeout(1_000)
        viewer.requests.clear()

        await viewer.page.clock.fast_forward("10:00")

        await expect(viewer.text("#link")).to_have_text("Live")
        for name in ("points", "breaches"):
            again = [headers for url, headers in viewer.requests if f"/v1/{name}/stream" in url]
            assert again, f"the stream of {name} was not opened anew"
            assert all(headers.get("last-event-id") for headers in again)


async def test_no_data_yet(viewer: Viewer):
    """An empty store is told as such; the first points appear by themselves."""
    last = await room_in_the_minute(30)
    async with open_desk() as desk:
        await viewer.open(desk.url)
        await expect(viewer.text(".grid .empty")).to_contain_text("No points yet")
        await expect(viewer.text("#chart-note")).to_contain_text("No points yet")

        desk.write(flat_day(Slot(last + 1), [BTC], slots=30).points())

        await viewer.settled(BTC)
        assert [BTC] == await viewer.rows()


async def test_an_exchange_that_went_silent(viewer: Viewer):
    """An exchange without points for minutes is told at the top, and the end of its charts is a gap."""
    end = Slot(newest_slot() + 1)
    down = flat_day(Slot(end - 12), ["KRAKEN:BTCUSD"], slots=DAY_SLOTS - 12)
    async with open_desk(await simulated_day(end), down) as desk:
        await viewer.open(f"{desk.url}/#KRAKEN:BTCUSD/price")
        await viewer.settled("KRAKEN:BTCUSD")

        await expect(viewer.page.locator(".chip", has_text="KRAKEN")).to_have_attribute("data-state", "silent")
        await expect(viewer.page.locator(".chip", has_text="SIM")).to_have_attribute("data-state", "fresh")
        await expect(viewer.text("#notice")).to_contain_text(re.compile("KRAKEN has been silent for 1[234] min"))
        await expect(viewer.text("#coverage")).to_contain_text("1,428 of 1,440")


async def test_gaps_are_gaps(viewer: Viewer):
    """Where there is no point nothing is drawn but hatching: the line does not lead across."""
    day = await simulated_day(Slot(newest_slot() + 1))
    day.values[PRICE][480:720] = np.nan
    async with open_desk(day) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)

        shares = await viewer.page.evaluate(LINE_SHARES)

    before, within, after = shares
    assert before > 0.9
    assert after > 0.9
    assert within == 0


LINE_SHARES = """() => {
  // The share of columns with the line's colour in them: hours 2 to 7, 9 to 11 (within the gap) and 13 to 22.
  const canvas = document.querySelector('.uplot canvas');
  const over = document.querySelector('.u-over').getBoundingClientRect();
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  const probe = document.createElement('i');
  probe.style.color = 'var(--accent)';
  document.body.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  const left = (over.left - box.left) * scale, width = over.width * scale;
  const top = Math.round((over.top - box.top) * scale), height = Math.round(over.height * scale);
  const { data } = canvas.getContext('2d').getImageData(0, top, canvas.width, height);
  const share = (from, to) => {
    const first = Math.round(left + width * from / 24), last = Math.round(left + width * to / 24);
    let columns = 0;
    for (let x = first; x < last; x += 1) {
      for (let y = 0; y < height; y += 1) {
        const at = 4 * (y * canvas.width + x);
        if (Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b) < 90) {
          columns += 1;
          break;
        }
      }
    }
    return columns / (last - first);
  };
  return [share(2, 7), share(9, 11), share(13, 22)];
}"""


async def test_a_day_is_drawn_quickly(viewer: Viewer):
    """A day of one series takes milliseconds of script; the figure is told, and only a gross slowdown fails."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)
        times = []
        for label in ("Change", "Vol 24 h", "Vol 1 min", "Price") * 3:
            await viewer.page.get_by_role("radio", name=label, exact=True).click()
            await viewer.settled(BTC)
            times += await viewer.page.evaluate(
                "performance.getEntriesByName('tickwatch-chart').map((e) => e.duration)"
            )

    median = float(np.median(times))
    sys.stdout.write(f"a day of one series: {median:.1f} ms of script, first {times[0]:.1f}, worst {max(times):.1f}\n")
    assert len(times) >= 12
    assert median < 1_000
