"""Minute candles from trades, as Kraken's own candles of those minutes would be. Pure.

Why it is not just grouping: OHLC lists a minute without trades as a candle of volume 0 at the close before it, and
lists no candle at all while Kraken was down. Trades look the same in both cases, but the longer candles, which reach
further back, do not: a longer candle without any trade is listed, one of an outage is not. So a minute without trades
is rebuilt as a candle of volume 0 unless it lies in a longer candle that is not listed, or between such a one and the
nearest trade within the longer candle beside it. An outage that no longer candle lies wholly in is taken for quiet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from services.collector.exchanges.base import Candles
from services.collector.exchanges.kraken_format import Trade
from services.core.model import Slot, Window


class Rebuilding:
    """Candles that grow from trades, oldest first; holds the trades of a few longer candles at most."""

    def __init__(self, start: Slot, step: int, coarse: Candles) -> None:
        """Begin at a multiple of `step` minutes, the length of the `coarse` candles, which are named by their start."""
        self.next = start
        """The first minute that was not taken yet."""
        self._step = step
        listed = coarse.by_slot()
        first = coarse.window.start + -coarse.window.start % step
        self._down = set(range(first, coarse.window.end, step)) - listed.keys()
        self._close: float | None = listed.get(Slot(start - step))
        self._closes: dict[int, float] = {}
        self._volumes: defaultdict[int, Decimal] = defaultdict(Decimal)

    def add(self, trades: Iterable[Trade]) -> None:
        """Take the next trades; those of minutes already taken are passed over."""
        for trade in trades:
            if trade.slot >= self.next:
                self._closes[trade.slot] = trade.price
                self._volumes[trade.slot] += trade.volume

    def take(self, until: int, remark: str = "") -> Candles:
        """Return the minutes of the whole longer candles before `until`, which no trade to come lies before.

        Minutes at the beginning whose close before is not known are left out. `remark` is handed on.
        """
        window = Window(self.next, Slot(max(self.next, until - until % self._step)))
        slots: list[int] = []
        closes: list[float] = []
        for start in range(window.start, window.end, self._step):
            for slot in self._listed(start):
                self._close = self._closes.pop(slot, self._close)
                if self._close is not None:
                    slots.append(slot)
                    closes.append(self._close)
        volumes = [float(self._volumes.pop(slot, Decimal())) for slot in slots]
        self.next = window.end
        return Candles.of(window, slots, closes, volumes, remark)

    def _listed(self, start: int) -> range:
        """Which minutes of the longer candle at `start` were not in an outage."""
        end = start + self._step
        traded = [slot for slot in range(start, end) if slot in self._closes]
        if start in self._down and not traded:
            return range(0)
        first, last = (traded[0], traded[-1] + 1) if traded else (start, end)
        return range(
            first if start - self._step in self._down else start,
            last if end in self._down else end,
        )
