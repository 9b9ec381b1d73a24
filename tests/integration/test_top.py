"""`tickwatch top` on real services, driven as a person would, in a terminal that nobody sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import tickwatch
from textual.widgets import DataTable, Input, Static

from services.command_line.top.app import Top
from services.core.model import Measure, Points, Quality, Series
from tests.support import alerter, query
from tests.support.alerter import breach
from tests.support.ports import free_port
from tests.support.query import LAST


async def until(holds: Callable[[], bool]) -> None:
    """Wait until this holds; 120 s at most, which only a hang takes."""
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - the screen has no event to wait for
            await asyncio.sleep(0.02)


def table(app: Top, name: str = "#ranking") -> list[list[str]]:
    """Return what stands in the ranking, or in another table."""
    found = app.query_one(name, DataTable)
    return [[str(cell) for cell in found.get_row_at(row)] for row in range(found.row_count)]


def text(app: Top, name: str) -> str:
    """Return what a line says."""
    return str(app.query_one(name, Static).content)


async def test_ranking_breaches_and_new_points_are_shown_as_they_come():
    """Rows in the order of ranks, a point within moments, a breach in the list and counted at its metric."""
    store = query.make_store(query.make_market(query.names(5)))
    writer = alerter.LogWriter(store.breach_log)
    async with query.serve(store) as asked, alerter.serve(store) as alerts:
        addresses = asked.server.address, alerts.server.address
        app = Top(lambda: (tickwatch.Client(addresses[0]), tickwatch.AlertClient(addresses[1])))
        async with app.run_test(size=(140, 40)) as pilot:
            await until(lambda: len(table(app)) > 1 and table(app)[0][0] == "1")
            names = [row[1] for row in table(app)]
            async with tickwatch.Client(addresses[0]) as client:
                rankings = await client.rank_metrics("price")
            assert names[: rankings.ranked_count] == [ranking.metric for ranking in rankings.rankings]
            assert "price by stddev" in text(app, "#status")
            assert "nothing is open" in text(app, "#status")

            writer.append(breach(names[0], LAST, message="out of line"))
            await until(lambda: "1 open" in text(app, "#status"))
            assert table(app)[0][-1] == "1"
            events = table(app, "#breaches")
            assert [names[0], "price", "out of line"] == [events[0][place] for place in (2, 3, 5)]
            assert events[0][1] == "opened"

            store.write(Points.of([(Series(names[0], Measure.PRICE), LAST, 123456.0, Quality.OBSERVED)]))
            await until(lambda: any(row[2] == "123,456" for row in table(app)))

            await pilot.press("s")
            await until(lambda: "coefficient_of_variation" in text(app, "#status"))
            await pilot.press("m")
            await until(lambda: "volume by" in text(app, "#status"))
            await pilot.press("slash", *names[1].partition(":")[2].lower(), "enter")
            await until(lambda: [row[1] for row in table(app)] == [names[1]])
            await pilot.press("escape")
            await until(lambda: len(table(app)) == len(names))
            assert not app.query_one("#words", Input).display
            await pilot.press("q")


async def test_what_one_looks_at_stays_while_ranks_change():
    """Far down a long ranking the cursor keeps its metric, and the screen its place, as everything is drawn anew."""
    store = query.make_store(query.make_market(query.names(60)))
    alerter.LogWriter(store.breach_log)
    async with query.serve(store) as asked, alerter.serve(store) as alerts:
        addresses = asked.server.address, alerts.server.address
        app = Top(lambda: (tickwatch.Client(addresses[0]), tickwatch.AlertClient(addresses[1])))
        async with app.run_test(size=(100, 30)) as pilot:
            await until(lambda: len(table(app)) == 60 and table(app)[0][0] == "1")
            ranking = app.query_one("#ranking", DataTable)
            await pilot.press(*["down"] * 40)
            chosen, seen = table(app)[ranking.cursor_row][1], ranking.scroll_offset.y
            assert seen > 10

            written = Series(table(app)[0][1], Measure.PRICE)
            store.write(Points.of([(written, LAST, 123456.0, Quality.OBSERVED)]))
            await until(lambda: any(row[2] == "123,456" for row in table(app)))
            assert (table(app)[ranking.cursor_row][1], ranking.scroll_offset.y) == (chosen, seen)

            await pilot.press("s")
            await until(lambda: "coefficient_of_variation" in text(app, "#status"))
            assert table(app)[ranking.cursor_row][1] == chosen
            await pilot.press("q")


async def test_control_c_ends_it():
    """As it ends every other command, also while a name is typed."""
    absent = f"127.0.0.1:{free_port()}"
    app = Top(lambda: (tickwatch.Client(absent), tickwatch.AlertClient(absent)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", "b")
        await pilot.press("ctrl+c")
        await until(lambda: not app.is_running)

    assert app.return_code == 0


async def test_a_service_that_is_away_is_told_and_all_is_well_once_it_is_back():
    """The line says what is wrong for as long as it is."""
    store = query.make_store(query.make_market(query.names(5)))
    alerter.LogWriter(store.breach_log)
    async with query.serve(store) as asked:
        address, absent = asked.server.address, f"127.0.0.1:{free_port()}"
        app = Top(lambda: (tickwatch.Client(address), tickwatch.AlertClient(absent, timeout_seconds=1)))
        async with app.run_test(size=(140, 40)):
            await until(lambda: text(app, "#trouble").startswith("alerts: "))
            await until(lambda: len(table(app)) > 1)
            async with alerter.serve(store, listen=absent):
                await until(lambda: text(app, "#trouble") == "" and app.board.evaluated is not None)
