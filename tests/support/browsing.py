"""A real Chromium for tests of the dashboard, and what a person sees in it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.support.needs import require_chromium

PATIENCE_MS = 60_000.0
"""For so long is waited for what has to happen: only a hang takes that long."""

expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Start the machine's Chromium without a window, for as long as the context lasts."""
    chromium = require_chromium()
    # Chromium refuses to sandbox itself for root, as in containers; it visits nothing but the tests' own servers.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=options)
        try:
            yield browser
        finally:
            await browser.close()


class Viewer:
    """A page of the dashboard, and everything it complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(f"{error}"))
        page.on("console", self._heard)
        page.on("request", lambda request: self.requests.append((request.url, request.headers)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def text(self, selector: str) -> Any:
        """Return the locator of an element, to be expected of."""
        return self.page.locator(selector)

    async def open(self, url: str) -> None:
        """Open the dashboard and wait until it is live."""
        await self.page.goto(url)
        await expect(self.page.locator("#link")).to_have_text("Live")

    async def rows(self) -> list[str]:
        """Return the metrics of the rows that exist, in the order in which they are seen."""
        script = """() => [...document.querySelectorAll('.grid-space .grid-row:not([hidden])')]
          .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((row) => row.dataset.metric)"""
        found: list[str] = await self.page.evaluate(script)
        return found

    def cell(self, metric: str, column: str) -> Any:
        """Return the locator of a cell of the ranking."""
        return self.page.locator(f'.grid-row[data-metric="{metric}"] .cell.{column}')

    def drawn(self) -> Any:
        """Return the locator of the chart's slider, whose text is the point that is read aloud."""
        return self.page.locator("#cursor")

    async def settled(self, metric: str) -> None:
        """Wait until this metric's chart is drawn."""
        await expect(self.page.locator("#series-title")).to_have_text(metric.replace(":", ""))
        await expect(self.page.locator("#chart-note")).to_be_hidden()
        await expect(self.drawn()).to_have_attribute("aria-valuetext", re.compile("UTC"))

    def not_of_the_network(self) -> list[str]:
        """Return the complaints but for those of requests that a stopped server did not answer."""
        return [words for words in self.complaints if not re.match("Failed to load resource|net::ERR", words)]
