"""Services that ask who reads: the page asks for a token once, sends it with everything, and forgets it when told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import tickwatch
from playwright.async_api import Browser, expect

from services.core.identity.static import FileTokens
from services.core.model import Measure, Slot
from services.core.rpc.access import Access, Protection
from tests.e2e.test_looking import violations
from tests.support.browsing import Viewer
from tests.support.certificates import Authority, new_token, replace, tokens_text
from tests.support.dashboard import Desk, flat_day, open_desk, room_in_the_minute
from tests.support.guarded import localhost, tls_files

BTC = "SIM:BTCUSD"


@asynccontextmanager
async def guarded_desk(folder: Path, last: Slot, *tokens: tuple[str, str, str]) -> AsyncIterator[Desk]:
    """Serve the day before this slot to those who show a token; the gateway has none of its own."""
    authority = Authority(folder / "authority")
    replace(folder / "tokens.yaml", tokens_text(*tokens))
    protection = Protection(tls=tls_files(localhost(authority)), access=Access(FileTokens(folder / "tokens.yaml")))
    credentials = tickwatch.Credentials(ca=authority.ca)
    async with open_desk(flat_day(last, [BTC]), protection=protection, credentials=credentials) as desk:
        yield desk


async def test_the_page_asks_for_a_token_once_and_sends_it_with_everything(viewer: Viewer, tmp_path: Path):
    """Asked by the dialog, a reader signs in, sees the market and what happens next; a reload does not ask again."""
    token = new_token()
    last = await room_in_the_minute(40)
    async with guarded_desk(tmp_path, last, ("reader", "read", token)) as desk:
        await viewer.page.goto(desk.url)
        dialog, field = viewer.text("#sign-in"), viewer.text("#token")
        await expect(dialog).to_be_visible()
        await expect(field).to_be_focused()
        assert [] == await violations(viewer.page)
        assert [] == await viewer.rows()

        await field.fill("two words")
        await viewer.page.keyboard.press("Enter")
        await expect(viewer.text("#sign-in-problem")).to_contain_text("one word")
        await field.fill(new_token())
        await viewer.page.keyboard.press("Enter")
        await expect(viewer.text("#sign-in-problem")).to_contain_text("not admitted")
        await expect(field).to_have_attribute("aria-invalid", "true")
        viewer.requests.clear()
        await field.fill(token)
        await viewer.page.keyboard.press("Enter")

        await expect(dialog).to_be_hidden()
        await expect(viewer.text("#link")).to_have_text("Live")
        await expect(viewer.text("#notice")).to_be_hidden()
        await viewer.settled(BTC)
        desk.write_value(BTC, Measure.PRICE, last, 450.0)
        await expect(viewer.cell(BTC, "last")).to_have_text("450.000")
        await expect(viewer.page.locator("#feed li").first).to_contain_text(BTC)
        asked = {
            url.partition("/v1/")[2].partition("?")[0]: headers for url, headers in viewer.requests if "/v1/" in url
        }
        assert {"points/stream", "breaches/stream", "metrics", "breaches", "rankings/price"} <= set(asked)
        assert {headers.get("authorization") for headers in asked.values()} == {f"Bearer {token}"}

        await viewer.page.reload()
        await viewer.settled(BTC)
        await expect(dialog).to_be_hidden()
        assert "token" not in await viewer.page.evaluate("Object.keys(localStorage)")


async def test_signing_out_leaves_nothing(viewer: Viewer, tmp_path: Path):
    """Who signs out leaves no token and no market on the page, which asks again."""
    token = new_token()
    async with guarded_desk(tmp_path, await room_in_the_minute(), ("reader", "read", token)) as desk:
        await viewer.page.goto(desk.url)
        await viewer.text("#token").fill(token)
        await viewer.page.keyboard.press("Enter")
        await viewer.settled(BTC)

        await viewer.page.get_by_role("button", name="Sign out").click()

        await expect(viewer.text("#sign-in")).to_be_visible()
        assert [] == await viewer.rows()
        assert 0 == await viewer.page.evaluate("sessionStorage.length")


async def test_declined_it_asks_no_more_until_asked_to(viewer: Viewer, tmp_path: Path):
    """A dialog that was closed stays closed while requests go on being refused; the button in the bar opens it."""
    token = new_token()
    await viewer.page.clock.install()
    async with guarded_desk(tmp_path, await room_in_the_minute(), ("reader", "read", token)) as desk:
        await viewer.page.goto(desk.url)
        dialog = viewer.text("#sign-in")
        await expect(dialog).to_be_visible()
        await viewer.page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        viewer.requests.clear()
        async with viewer.page.expect_response(lambda answer: answer.status == 401):
            await viewer.page.clock.fast_forward("00:20")
        await expect(dialog).to_be_hidden()
        await expect(viewer.text("#notice")).to_contain_text("sign in")

        await viewer.page.get_by_role("button", name="Sign in", exact=True).click()
        await viewer.text("#token").fill(token)
        await viewer.page.keyboard.press("Enter")
        await viewer.settled(BTC)


async def test_where_nobody_is_asked_there_is_nothing_to_sign_in_to(browser: Browser):
    """Open services, or a gateway with a token of its own: no dialog, no button, no Authorization."""
    last = await room_in_the_minute()
    async with open_desk(flat_day(Slot(last + 1), [BTC])) as desk:
        viewer = Viewer(await browser.new_page())
        await viewer.open(desk.url)
        await viewer.settled(BTC)

        await expect(viewer.text("#sign-in")).to_be_hidden()
        await expect(viewer.text("#session")).to_be_hidden()
        assert not any("authorization" in headers for _, headers in viewer.requests)
        await viewer.page.close()
