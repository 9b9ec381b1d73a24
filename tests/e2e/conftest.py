"""A browser and a page for each test; a page that complained of anything fails its test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.support.browsing import Viewer, open_browser


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium."""
    async with open_browser() as browser:
        yield browser


@pytest_asyncio.fixture
async def viewer(browser: Browser) -> AsyncIterator[Viewer]:
    """Open a page as large as a laptop's; nothing may break in it but what a stopped server leaves unanswered."""
    context = await browser.new_context(viewport={"width": 1500, "height": 900}, color_scheme="dark")
    viewer = Viewer(await context.new_page())
    yield viewer
    await context.close()
    assert [] == viewer.not_of_the_network()
