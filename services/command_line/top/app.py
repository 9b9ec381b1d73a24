"""The live view in the terminal: ranking, the last hour of each metric, open episodes and the latest breaches.

It draws a board and takes keys; what is on the board comes from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import ClassVar

import tickwatch
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static

from services.command_line.arguments import STATISTICS
from services.command_line.printing import number, short
from services.command_line.top.board import SPARK_SLOTS, Board, Row, sparkline
from services.command_line.top.following import Feed
from services.command_line.top.telling import EVENT_COLUMNS, clock, event_cells, right
from services.core.words import MEASURES

_REDRAW_SECONDS = 0.2
_COLUMNS = ("Rank", "Metric", "Price", "24 h", "Vol 1 m", "Last hour", "Statistic", "Open")
_LEFT = ("Metric", "Last hour")
_OTHERS_WIDTH = 63
"""What the columns but the metric's and the last hour's take, with the gaps between all; the last hour has the rest."""
_SPARK_WIDTHS = range(8, SPARK_SLOTS + 1)

Connect = Callable[[], tuple[tickwatch.Client, tickwatch.AlertClient]]


class Top(App[None]):
    """`connect` makes the clients, within the app's own loop; `measure` is what is ranked at first."""

    TITLE = "Tickwatch"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #status { height: 1; background: $panel; padding: 0 1; }
    #trouble { height: auto; color: $error; padding: 0 1; display: none; }
    #ranking { height: auto; min-height: 4; max-height: 60%; }
    #words { display: none; }
    #breaches { height: 1fr; border-top: solid $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        # As it ends every other command.
        Binding("ctrl+c", "quit", show=False, priority=True),
        ("s", "statistic", "Statistic"),
        ("m", "measure", "Measure"),
        ("slash", "search", "Search"),
        ("escape", "everything", "Show all"),
    ]

    def __init__(self, connect: Connect, *, measure: str = "price") -> None:
        super().__init__()
        self.board = Board()
        self._connect = connect
        self._measure = measure
        self._feed: Feed | None = None
        self._words = ""
        self._stale = True
        self._drawn_events: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        """Return the parts, from top to bottom."""
        yield Static(id="status")
        yield Static(id="trouble")
        yield Input(id="words", placeholder="part of a metric's name, as in BTC")
        yield DataTable(id="ranking", cursor_type="row", zebra_stripes=True)
        yield DataTable(id="breaches", cursor_type="none")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the services."""
        self._table.add_columns(*(name if name in _LEFT else right(name) for name in _COLUMNS))
        self._events.add_columns(*EVENT_COLUMNS)
        self._table.focus()
        self.run_worker(self._follow(), exclusive=True)
        self.set_interval(_REDRAW_SECONDS, self._draw)

    def action_statistic(self) -> None:
        """Rank by the next statistic."""
        if self._feed is not None:
            self._feed.statistic = _next(STATISTICS, self._feed.statistic)
            self._feed.rerank()

    def action_measure(self) -> None:
        """Rank the next measure."""
        if self._feed is not None:
            self._feed.measure = _next(MEASURES, self._feed.measure)
            self._feed.rerank()

    def action_search(self) -> None:
        """Ask for a part of a name."""
        words = self.query_one("#words", Input)
        words.display = True
        words.focus()

    def action_everything(self) -> None:
        """Show every metric again."""
        words = self.query_one("#words", Input)
        words.value, words.display = "", False
        self._table.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits the words so far."""
        self._words, self._stale = event.value.strip(), True

    def on_input_submitted(self) -> None:
        """Go back to the table with what was found."""
        self._table.focus()

    @property
    def _table(self) -> DataTable[str | Text]:
        table: DataTable[str | Text] = self.query_one("#ranking", DataTable)
        return table

    @property
    def _events(self) -> DataTable[str | Text]:
        table: DataTable[str | Text] = self.query_one("#breaches", DataTable)
        return table

    def on_resize(self) -> None:
        """Give the last hour the width that there is now."""
        self._stale = True

    async def _follow(self) -> None:
        async with AsyncExitStack() as stack:
            client, alerts = self._connect()
            await stack.enter_async_context(client)
            await stack.enter_async_context(alerts)
            self._feed = Feed(
                self.board, client, alerts, measure=self._measure, changed=self._change, trouble=self._trouble
            )
            await self._feed.run()

    def _change(self) -> None:
        self._stale = True

    def _trouble(self, words: str) -> None:
        for line in self.query("#trouble").results(Static):  # none where it is being closed
            line.update(Text(words))
            line.display = bool(words)

    def _draw(self) -> None:
        """Draw what has changed; points come in bursts, and eyes need no more."""
        if not self._stale or self._feed is None or not self.query("#status"):  # without parts: it is being closed
            return
        self._stale = False
        self.query_one("#status", Static).update(self._status(self._feed))
        table = self._table
        at, seen = self._chosen(), table.scroll_offset.y
        rows = self.board.rows(self._words)
        table.clear()
        longest = max((len(row.metric) for row in rows), default=0)
        width = min(max(self.size.width - _OTHERS_WIDTH - longest, _SPARK_WIDTHS[0]), _SPARK_WIDTHS[-1])
        for row in rows:
            table.add_row(*self._cells(row, width), key=row.metric)
        # Ranks change: the cursor stays on its metric, and what is in sight where it is.
        table.move_cursor(row=next((place for place, row in enumerate(rows) if row.metric == at), 0), scroll=False)
        table.scroll_to(y=seen, animate=False, immediate=True)
        self._draw_events()

    def _chosen(self) -> str | None:
        """Return the metric under the cursor, None where there is none."""
        table = self._table
        if not table.is_valid_coordinate(table.cursor_coordinate):
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def _draw_events(self) -> None:
        shown = tuple(event.id for event in self.board.events)
        if shown == self._drawn_events:
            return
        self._drawn_events = shown
        table = self._events
        table.clear()
        for event in reversed(self.board.events):
            table.add_row(*event_cells(event, self.board.rules.get(event.rule_version)), key=event.id)

    def _status(self, feed: Feed) -> Text:
        board = self.board
        count = board.open_count()
        parts = [
            ("Tickwatch", "bold"),
            (f"   {feed.measure} by {feed.statistic}", ""),
            (f"   data to {clock(board.newest)}" if board.newest else "   no data yet", "dim"),
            (f"   evaluated to {clock(board.evaluated)} UTC" if board.evaluated else "", "dim"),
            (f"   {count} open" if count else "   nothing is open", "bold yellow" if count else "dim"),
        ]
        return Text.assemble(*parts)

    def _cells(self, row: Row, width: int) -> tuple[str | Text, ...]:
        change = row.values.get("change_percentage", math.nan)
        count = self.board.open_count(row.metric)
        return (
            right("-" if row.rank is None else str(row.rank)),
            row.metric,
            right(_known(row.values.get("price", math.nan), number)),
            right(_known(change, lambda value: f"{value:+.2f} %"), "red" if change < 0 else "green"),
            right(_known(row.values.get("volume_1m", math.nan), short)),
            Text(sparkline(row.prices, width), "cyan"),
            right(_known(row.statistic, number)),
            right(str(count) if count else "", "bold yellow"),
        )


def _next(words: tuple[str, ...], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)]


def _known(value: float, written: Callable[[float], str]) -> str:
    return "-" if math.isnan(value) else written(value)
