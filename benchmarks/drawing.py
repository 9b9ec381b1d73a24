"""What it costs a browser to draw a day: the dashboard in Chromium, on the gateway that is being measured."""

from __future__ import annotations

import os
import shutil

from playwright.sync_api import sync_playwright

from benchmarks.report import Report, Table, number
from benchmarks.servers import MissingPeerError, WebServer
from benchmarks.statistics import Bound, Goal, Spread

MOST_MILLISECONDS = 50.0
_MEASURES = ("Change", "Vol 24 h", "Vol 1 min", "Price")
_ENTRIES = "performance.getEntriesByName('tickwatch-chart')"


def measure_drawing(gateway: WebServer, metric: str, rounds: int, report: Report) -> None:
    """Draw the measures of a metric in turn; the page itself takes the time, from the data to the painted canvas."""
    try:
        times, version = _draw(gateway, metric, rounds)
    except MissingPeerError as error:
        report.skip("drawing a day", error)
        return
    row = [version, number(Spread.of(times[1:])), f"{times[0]:.1f}"]
    title = "A day of one series drawn by the dashboard, 1,440 points"
    report.table(Table(title, ["browser", "ms of script", "the first, ms"], [row]))
    report.goal(
        Goal("Drawing a day of one series, ms of script", Bound.AT_MOST, MOST_MILLISECONDS, Spread.of(times[1:]))
    )


def _draw(gateway: WebServer, metric: str, rounds: int) -> tuple[list[float], str]:
    """Return the milliseconds of each drawing, the first one included, and which browser it was."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise MissingPeerError("Chromium is not in PATH: install it, or name it in CHROMIUM")
    # Chromium refuses to sandbox itself for root; it visits nothing but the gateway.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    times: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"{gateway.url}/#{metric}/price")
        page.wait_for_function(f"() => {_ENTRIES}.length > 0")
        times.append(float(page.evaluate(f"{_ENTRIES}[0].duration")))
        for label in _MEASURES * max(3, rounds):
            page.evaluate("performance.clearMeasures('tickwatch-chart')")
            page.get_by_role("radio", name=label, exact=True).click()
            page.wait_for_function(f"() => {_ENTRIES}.length > 0")
            times.append(float(page.evaluate(f"{_ENTRIES}[0].duration")))
        version = f"Chromium {browser.version}"
        browser.close()
    return times, version
