"""Keeps a board up to date from the services: lists and ranks, watches points and breaches, resumes by itself.

It knows the published client and the board, and nothing of the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import tickwatch

from services.command_line.top.board import SHOWN_MEASURES, Board

_PAST_EVENTS = 50
_AT_ONCE = 8
_MOST_LINES = 100
"""How many metrics, the best ranked, have the line of their last hour fetched: a terminal shows no more at once."""
_PAUSE_SECONDS = 5.0


class Feed:
    """What fills a board. `changed()` is called after each change, `trouble(words)` when what is wrong has changed.

    `measure` and `statistic` say what is ranked; after setting them call `rerank`. Empty words: all is well.
    """

    def __init__(
        self,
        board: Board,
        client: tickwatch.Client,
        alerts: tickwatch.AlertClient,
        *,
        measure: str,
        changed: Callable[[], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._board = board
        self._client = client
        self._alerts = alerts
        self._changed = changed
        self._trouble = trouble
        self.measure = measure
        self.statistic = "stddev"
        self._asked = asyncio.Event()
        self._troubles: dict[str, str] = {}
        self._versions: set[str] = set()
        """The versions of rules that were asked for, whether or not they hold."""

    def rerank(self) -> None:
        """Have the ranking asked for anew, because `measure` or `statistic` has changed."""
        self._asked.set()

    async def run(self) -> None:
        """Keep the board up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lasting("points", self._points))
            group.create_task(self._lasting("ranking", self._rankings))
            group.create_task(self._lasting("alerts", self._breaches))

    async def _lasting(self, what: str, follow: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin again whenever a service cannot be reached, or cannot go on where it was."""
        while True:
            try:
                await follow()
            except tickwatch.Error as error:
                self._tell(what, error.problem)
                await asyncio.sleep(_PAUSE_SECONDS)

    def _tell(self, what: str, words: str = "") -> None:
        if words == self._troubles.get(what, ""):
            return
        self._troubles[what] = words
        self._trouble("; ".join(f"{name}: {text}" for name, text in self._troubles.items() if text))

    async def _points(self) -> None:
        await self._list()
        stream = self._client.watch_points(
            measures=SHOWN_MEASURES,
            bookmarks=True,
            on_retry=lambda error, _pause: self._tell("points", error.problem),
        )
        async with aclosing(stream) as batches:
            async for batch in batches:
                self._tell("points")
                if self._board.points(batch):
                    await self._list()
                if len(batch):
                    self.rerank()
                    self._changed()

    async def _list(self) -> None:
        self._board.list([metric async for metric in self._client.list_metrics()])
        await self._rank()
        gate = asyncio.Semaphore(_AT_ONCE)
        unknown = [row.metric for row in self._board.rows()[:_MOST_LINES] if row.slot is None]

        async def remember(metric: str) -> None:
            # A metric whose prices have all gone meanwhile keeps an empty line.
            async with gate:
                with contextlib.suppress(tickwatch.NotFoundError):
                    self._board.remember(await self._client.get_history(metric, "price"))

        await asyncio.gather(*map(remember, unknown))
        self._changed()

    async def _rankings(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._rank()
            self._tell("ranking")
            self._changed()

    async def _rank(self) -> None:
        self._board.rank(await self._client.rank_metrics(self.measure, statistic=self.statistic))

    async def _breaches(self) -> None:
        stream = self._alerts.watch_breaches(
            delivery="episodes",
            bookmarks=True,
            on_retry=lambda error, _pause: self._tell("alerts", error.problem),
        )
        async with aclosing(stream) as items:
            async for item in items:
                self._tell("alerts")
                if isinstance(item, tickwatch.Snapshot):
                    await self._read_past()
                elif isinstance(item, tickwatch.Event) and item.rule_version not in self._versions:
                    await self._learn(item.rule_version)
                self._board.alert(item)
                self._changed()

    async def _read_past(self) -> None:
        """Read what was before the stream: once it is open, so that nothing falls between the two."""
        await self._learn()
        page = await self._alerts.list_breaches_page(delivery="episodes", page_size=_PAST_EVENTS)
        self._board.known(page.events)

    async def _learn(self, *versions: str) -> None:
        """Ask for the rules that hold; these versions, be they among them or not, are not asked for again."""
        self._board.learn(await self._alerts.list_rules())
        self._versions.update(self._board.rules, versions)
