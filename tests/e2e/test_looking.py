"""How the page is used: a thousand metrics, errors, the rule try-out, the keyboard, a phone, without sight."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from services.core.model import Measure, Series, Slot
from tests.support.browsing import Viewer
from tests.support.dashboard import flat_day, newest_slot, open_desk, room_in_the_minute, simulated_day

BTC = "SIM:BTCUSD"
THOUSAND = [f"SIM:P{number:04}USD" for number in range(1_000)]


async def test_a_thousand_metrics(viewer: Viewer):
    """A thousand metrics: few rows exist, every one can be reached, sorted and searched for."""
    async with open_desk(flat_day(Slot(newest_slot() + 1), THOUSAND, slots=120), evaluated=1) as desk:
        await viewer.open(desk.url)
        await expect(viewer.text("#ranking-count")).to_have_text("1,000 metrics")
        await expect(viewer.cell(THOUSAND[-1], "rank")).to_have_text("1")
        assert 10 < len(await viewer.rows()) < 80

        grid = viewer.text("#grid")
        await expect(grid).to_have_attribute("aria-rowcount", "1001")
        await grid.focus()
        await viewer.page.keyboard.press("End")
        await expect(viewer.cell(THOUSAND[0], "rank")).to_have_text("1000")
        assert THOUSAND[0] == (await viewer.rows())[-1]
        assert len(await viewer.rows()) < 80

        await viewer.page.get_by_role("button", name="Metric", exact=True).click()
        await expect(viewer.cell(THOUSAND[0], "name")).to_be_visible()
        assert THOUSAND[:3] == (await viewer.rows())[:3]
        await viewer.page.get_by_role("button", name="Metric", exact=True).click()
        await expect(viewer.cell(THOUSAND[-1], "name")).to_be_visible()
        assert THOUSAND[-1] == (await viewer.rows())[0]

        await viewer.text("#search").fill("p077")
        await expect(viewer.text("#ranking-count")).to_have_text("10 of 1,000 metrics")
        assert set(THOUSAND[770:780]) == set(await viewer.rows())
        await viewer.page.keyboard.press("Enter")
        await viewer.settled(THOUSAND[779])
        await viewer.text("#search").fill("nothing")
        await expect(viewer.text(".grid .empty")).to_contain_text("NOTHING")
        await viewer.page.keyboard.press("Escape")
        await expect(viewer.text("#ranking-count")).to_have_text("1,000 metrics")


EXTREMES = {
    "COINBASE:BTCUSD": 61_234.5,
    "UPBIT:BTCKRW": 91_234_567.0,
    "INDODAX:BTCIDR": 1_012_345_678.0,
    "BINANCE:DOGEBTC": 0.0000026543,
    "BITSTAMP:ARDUSD": 0.0364361,
    "KRAKEN:SHIBUSD": 0.0000123456,
    "SIM:LONGNAMEOFAPAIR1000USDTPERPETUAL": 0.00123456,
}


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768), (390, 844)])
async def test_no_number_is_shown_in_part(browser: Browser, size: tuple[int, int]):
    """A price in won or in bitcoin is written with fewer digits if need be; of a name its exchange gives way."""
    end = Slot(newest_slot() + 1)
    days = [flat_day(end, [name], value=value, slots=120) for name, value in EXTREMES.items()]
    async with open_desk(*days, evaluated=1) as desk:
        context = await browser.new_context(viewport={"width": size[0], "height": size[1]})
        viewer = Viewer(await context.new_page())
        await viewer.open(f"{desk.url}/#INDODAX:BTCIDR/price")
        await expect(viewer.cell("BINANCE:DOGEBTC", "stddev")).to_have_text(re.compile(r"\d"))
        cut = await viewer.page.evaluate(
            "[...document.querySelectorAll('.grid-space .cell.number, .grid-space .name-pair')]"
            ".filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
        )
        await viewer.page.evaluate("document.querySelector('[data-show=series]').click()")
        await viewer.settled("INDODAX:BTCIDR")
        beyond = await viewer.page.evaluate(
            "document.querySelector('#series').scrollWidth > document.querySelector('#series').clientWidth"
        )
        axis = await viewer.page.evaluate("document.querySelector('.u-axis:last-of-type').offsetWidth")
        await context.close()

    assert [":LONGNAMEOFAPAIR1000USDTPERPETUAL"] == cut
    assert not beyond
    assert axis > 68  # as wide as a price of thirteen characters


async def test_the_ranking_has_every_statistic_and_measure(viewer: Viewer):
    """The table has the three statistics; another measure and window rank anew."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(desk.url)
        for column in ("stddev", "coefficient_of_variation", "log_return_stddev"):
            await expect(viewer.cell(BTC, column)).to_have_text(re.compile(r"\d"))
        before = await viewer.cell(BTC, "stddev").inner_text()

        await viewer.text("#ranking-measure").select_option("volume_1m")
        await expect(viewer.cell(BTC, "stddev")).not_to_have_text(before)
        await expect(viewer.cell(BTC, "stddev")).to_have_text(re.compile(r"\d"))
        within_a_day = await viewer.cell(BTC, "stddev").inner_text()
        await viewer.text("#ranking-window").select_option("15m")
        await expect(viewer.cell(BTC, "stddev")).not_to_have_text(within_a_day)


async def test_errors_are_told_where_they_matter_and_pass(viewer: Viewer):
    """Without the query service the page says so, in the chart too; when it is back everything is there by itself."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)

        await desk.stop_query()
        await viewer.page.get_by_role("radio", name="Change", exact=True).click()
        await expect(viewer.text("#chart-note")).to_contain_text("tried again")
        await expect(viewer.text("#notice")).to_be_visible()
        for place in ("#chart-note", "#notice"):  # what the page does, nobody is asked to do
            await expect(viewer.text(place)).not_to_contain_text("try again")
        await desk.start_query()

        await expect(viewer.text("#chart-note")).to_be_hidden()
        await viewer.settled(BTC)
        await expect(viewer.text("#notice")).to_be_hidden()


async def test_a_name_that_is_no_metric_shows_one_that_is(viewer: Viewer):
    """An address with a metric that does not exist opens the first of the ranking, and says that this is another."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1), ["ADAUSD", "BTCUSD"])) as desk:
        await viewer.open(f"{desk.url}/#SIM:NOSUCHUSD/price")

        await viewer.settled(BTC)
        await expect(viewer.text("#notice")).to_contain_text("SIM:NOSUCHUSD has no price in the last 24 hours")
        await viewer.cell("SIM:ADAUSD", "name").click()
        await viewer.settled("SIM:ADAUSD")
        await expect(viewer.text("#notice")).to_be_hidden()


async def test_a_rule_is_tried_out(viewer: Viewer):
    """Factor and window are tried on the last 24 hours: counted, drawn, and tried again when they change."""
    last = await room_in_the_minute(40)
    day = flat_day(Slot(last + 1), [BTC, "SIM:ETHUSD"])
    for place, value in ((500, 250.0), (800, 250.0), (1100, 450.0)):
        day.values[Series(BTC, Measure.PRICE)][place] = value
    async with open_desk(day) as desk:
        await viewer.open(f"{desk.url}/#{BTC}/price")
        await viewer.settled(BTC)
        figures = viewer.text("#trial-figures")

        await viewer.page.get_by_role("button", name="Try on 24 h").click()
        await expect(figures).to_contain_text("would breach1")
        await viewer.text("#factor").fill("2")
        await expect(figures).to_contain_text("would breach3")
        await expect(viewer.text("#key-trial")).to_be_visible()
        await expect(viewer.text("#trial-hours")).to_have_attribute("aria-label", re.compile("1 at most"))
        await viewer.text("#trial-scope").select_option("measure")
        await expect(figures).to_contain_text("series2")

        await viewer.text("#factor").fill("0")
        await expect(viewer.text("#trial-problem")).to_contain_text("above 0")
        await expect(viewer.text("#factor")).to_have_attribute("aria-invalid", "true")


async def test_everything_works_by_keyboard(viewer: Viewer):
    """Search, choose, read the chart minute by minute and open the help, without a pointer."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(desk.url)
        await viewer.settled(BTC)
        keyboard = viewer.page.keyboard

        await keyboard.press("/")
        await expect(viewer.text("#search")).to_be_focused()
        await keyboard.type("usd")
        await keyboard.press("ArrowDown")
        await expect(viewer.text("#grid")).to_be_focused()
        await keyboard.press("ArrowDown")
        await expect(viewer.text("#grid")).to_have_attribute("aria-activedescendant", "row-1")
        chosen = (await viewer.rows())[1]
        await keyboard.press("Enter")
        await viewer.settled(chosen)

        await viewer.drawn().focus()
        await keyboard.press("End")
        newest = await viewer.drawn().get_attribute("aria-valuetext")
        await keyboard.press("Shift+ArrowLeft")
        await expect(viewer.drawn()).to_have_attribute("aria-valuenow", "1429")
        assert newest != await viewer.drawn().get_attribute("aria-valuetext")

        await viewer.page.get_by_role("radio", name="Price", exact=True).focus()
        await keyboard.press("ArrowRight")
        await expect(viewer.page.get_by_role("radio", name="Vol 24 h")).to_have_attribute("aria-checked", "true")

        await keyboard.press("?")
        await expect(viewer.text("#keys")).to_be_visible()
        await keyboard.press("Escape")
        await expect(viewer.text("#keys")).to_be_hidden()


async def test_everything_is_reached_by_tab(viewer: Viewer):
    """Tabbing from the top reaches every control once, and comes to an end."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(f"{desk.url}/#{BTC}/volume_1m")
        await viewer.settled(BTC)
        await expect(viewer.text("#marks")).to_be_visible()
        reached = []
        for _ in range(60):
            await viewer.page.keyboard.press("Tab")
            reached.append(await viewer.page.evaluate("document.activeElement.id"))
            if reached[-1] == "feed-kind":
                break

    wanted = ["theme", "help", "ranking-measure", "search", "grid", "cursor", "marks", "factor", "window", "feed-kind"]
    assert wanted == [one for one in reached if one in wanted]


async def test_the_theme_is_kept(viewer: Viewer):
    """The theme follows the system until somebody chooses one, which is kept; the chart takes its colours."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        await viewer.open(desk.url)
        background = "getComputedStyle(document.body.parentElement).backgroundColor"
        dark = await viewer.page.evaluate(background)
        await viewer.text("#theme").click()
        await viewer.text("#theme").click()
        await expect(viewer.text("#theme")).to_have_attribute("aria-label", "Theme: light")
        light = await viewer.page.evaluate(background)
        await viewer.page.reload()
        await viewer.settled(BTC)

        assert dark != light
        assert light == await viewer.page.evaluate(background)


async def test_a_phone(browser: Browser):
    """On a phone one view at a time is shown, nothing is wider than the screen, and what one taps is large enough."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        viewer = Viewer(await context.new_page())
        await viewer.open(desk.url)
        for view in ("Chart", "Breaches", "Try a rule", "Ranking"):
            await viewer.page.get_by_role("button", name=view, exact=True).tap()
            shown = await viewer.page.evaluate(
                "[...document.querySelectorAll('.panel')].map((one) => getComputedStyle(one).visibility)"
            )
            assert shown.count("visible") == 1
            assert await viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        cut = await viewer.page.evaluate(
            "[...document.querySelectorAll('.feed-marks')].filter((one) => one.offsetLeft + one.offsetWidth > "
            "one.parentElement.offsetLeft + one.parentElement.offsetWidth).length"
        )
        assert cut == 0  # a long name of a rule gives way to what has happened
        await viewer.page.locator(".grid-space .grid-row").nth(1).tap()
        await expect(viewer.text("#series")).to_be_visible()
        await expect(viewer.text(".u-over")).to_be_visible()
        heights = await viewer.page.evaluate(
            "[...document.querySelectorAll('.views button, #series .choices button')].map((one) => one.offsetHeight)"
        )
        await context.close()
        assert min(heights) >= 36
        assert [] == viewer.complaints


async def test_a_small_tablet_has_every_statistic(browser: Browser):
    """One view at a time, with all the columns that a desk has."""
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        context = await browser.new_context(viewport={"width": 768, "height": 1024})
        viewer = Viewer(await context.new_page())
        await viewer.open(desk.url)
        for column in ("stddev", "coefficient_of_variation", "log_return_stddev", "coverage"):
            await expect(viewer.cell(BTC, column)).to_be_visible()
        # Of a metric without an episode its cell is empty, and has no size.
        await expect(viewer.page.get_by_role("columnheader", name="Open")).to_be_visible()
        assert await viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await context.close()


async def violations(page: Page) -> list[str]:
    """Return what axe finds that is serious or critical."""
    found: Sequence[dict[str, object]] = (await Axe().run(page)).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['target'] for node in one['nodes']][:4]}"  # type: ignore[index, attr-defined]
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_axe_finds_nothing_serious(browser: Browser, scheme: str):
    """Axe finds nothing serious, in both themes: on the desk, with evidence and help open, on a phone, without data."""
    found: dict[str, list[str]] = {}
    async with open_desk(await simulated_day(Slot(newest_slot() + 1))) as desk:
        context = await browser.new_context(viewport={"width": 1500, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        viewer = Viewer(await context.new_page())
        await viewer.open(f"{desk.url}/#{BTC}/volume_1m")
        await viewer.settled(BTC)
        await viewer.text("#marks").focus()
        await expect(viewer.text("#evidence")).to_be_visible()
        found["evidence"] = await violations(viewer.page)
        await viewer.text("#help").click()
        found["help"] = await violations(viewer.page)
        await context.close()
        context = await browser.new_context(
            viewport={"width": 390, "height": 844},
            has_touch=True,
            is_mobile=True,
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        viewer = Viewer(await context.new_page())
        await viewer.open(desk.url)
        for view in ("Chart", "Breaches", "Try a rule", "Ranking"):
            await viewer.page.get_by_role("button", name=view, exact=True).tap()
            found[f"phone, {view}"] = await violations(viewer.page)
        await context.close()
    async with open_desk() as desk:
        context = await browser.new_context(viewport={"width": 1500, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        viewer = Viewer(await context.new_page())
        await viewer.open(desk.url)
        found["no data"] = await violations(viewer.page)
        await context.close()

    assert {place: [] for place in found} == found
