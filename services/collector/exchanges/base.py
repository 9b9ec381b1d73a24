"""What an exchange is to the collector. The docstrings are the specification; `tests/conformance/exchanges` proves it.

An exchange speaks in our pairs (BTCUSD) and slots; its own codes, formats and limits never leave its module. It knows
no store and no run: it answers questions, or raises ExchangeError in the exchange's own words.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from services.core.errors import ExchangeError, InvalidSettingError
from services.core.model import Floats, Slot, Slots, Window


@dataclass(frozen=True, slots=True)
class ExchangeOptions:
    """How one exchange is reached; an exchange without a network ignores what it has no use for."""

    base_url: str | None = None
    """Where its API is; None is the exchange's public address."""
    connect_timeout_seconds: float = 3.0
    """How long a connection may take to open."""
    timeout_seconds: float = 8.0
    """How long one call may take altogether, so that a call and its two retries fit into the minute."""
    retries: int = 2
    """How often a call that might succeed later is repeated within a run."""
    retry_seconds: float = 0.5
    """The longest pause before the first repetition, drawn from its upper half; it doubles each time."""
    longest_pause_seconds: float = 10.0
    """An exchange that asks to be left alone for longer is not called again by this run."""
    burst: int = 15
    """How many of a run's calls may be made at once; behind them it keeps the pace that the exchange bears."""
    calls_per_second: float | None = None
    """The pace of calls that fill gaps, for as long as a backfill takes. None: what the exchange is known to bear."""
    seed: int = 1
    """Which market a simulated exchange plays."""

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout_seconds",
            "timeout_seconds",
            "longest_pause_seconds",
            "calls_per_second",
            "burst",
        ):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InvalidSettingError(f"exchanges.{name}", f"{value!r} will not do", "a number above 0")
        for name in ("retries", "retry_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidSettingError(f"exchanges.{name}", f"{getattr(self, name)!r} is negative", "0 or more")


@dataclass(frozen=True, slots=True)
class Ticker:
    """What a pair was at the moment of asking. It bears no time: whoever stores it must have asked on time."""

    price: float
    """Of the last trade, in the quote currency; above 0. On a thin pair the trade may be old."""
    volume_24h: float
    """Base units traded in the 24 hours up to now; not negative."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one batched call told: of each pair asked for either a ticker or a failure."""

    tickers: Mapping[str, Ticker]
    failures: Mapping[str, ExchangeError]
    remarks: tuple[str, ...] = ()
    """What went wrong besides, in the exchange's own words, without costing a pair its ticker."""


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Complete one-minute candles of a pair, as columns in ascending order of slot, each slot once.

    They answer for every slot of `window`, and for no other: a slot of the window that is not in `slots` has no candle
    at the exchange. A candle may be of a minute without trades; then its close is the one before and its volume 0.
    """

    window: Window
    slots: Slots
    closes: Floats
    """Last trade price, in the quote currency; finite and above 0."""
    volumes: Floats
    """Base units traded within the slot; finite and not negative."""
    remark: str = ""
    """An error in the exchange's own words that came beside this usable answer; empty for none."""

    @classmethod
    def of(
        cls,
        window: Window,
        slots: Sequence[int],
        closes: Sequence[float],
        volumes: Sequence[float],
        remark: str = "",
    ) -> Self:
        """Build columns from sequences of one length."""
        columns = np.array(slots, np.int64), np.array(closes, np.float64), np.array(volumes, np.float64)
        return cls(window, *columns, remark)

    def by_slot(self) -> dict[Slot, float]:
        """Return each slot's close."""
        return {Slot(s): close for s, close in zip(self.slots.tolist(), self.closes.tolist(), strict=True)}

    def within(self, window: Window) -> Candles:
        """The part of these that lies in the window."""
        start = max(self.window.start, min(window.start, self.window.end))
        end = max(start, min(window.end, self.window.end))
        kept = (self.slots >= start) & (self.slots < end)
        columns = self.slots[kept], self.closes[kept], self.volumes[kept]
        return Candles(Window(Slot(start), Slot(end)), *columns, self.remark)


class Exchange(ABC):
    """A venue. Everything is asynchronous; several questions may be asked at once.

    Every question may raise ExchangeUnavailableError (no answer, or "later"), ExchangeRefusedError (it said no, as to
    an unknown pair) and ExchangeMalformedError (an answer that is not in its format, or with a value that cannot be:
    a price that is NaN or not above 0, a negative volume), with the pair named where it is about one. Then nothing of
    that answer is used. Repetitions, the pace and the time limit of a call are the exchange's own business.
    """

    name: str
    """Upper case, the first half of its metrics' names."""
    candle_reach: int | None
    """How many slots before the one in progress `candles` reaches back at least; None is without limit."""
    coarse_minutes: int
    """Of which slots `coarse_closes` may tell a close: those that end at a multiple of so many minutes."""

    @abstractmethod
    async def sample(self, pairs: Sequence[str]) -> Sample:
        """Ask for all pairs in as few calls as the exchange allows.

        A pair's failure is in the sample and leaves the other pairs alone. Raises where nothing could be asked at all.
        """

    @abstractmethod
    async def candles(self, pair: str, window: Window) -> Candles:
        """Return the complete candles of the window that the exchange's candles reach back to.

        The answer's window is the part that the exchange has answered for: it starts later where the reach ends, and
        ends earlier where the exchange has not closed the newest candles. It may be empty.
        """

    @abstractmethod
    def older_candles(self, pair: str, window: Window) -> AsyncIterator[Candles]:
        """Rebuild the candles of a window beyond the reach of `candles`, in consecutive pieces, oldest first.

        The pieces are what the exchange's candles would have shown, at a pace that the exchange bears for hours. Each
        piece stands by itself: whoever stops after one asks later for what follows its window. Together they cover the
        window, or what of it the exchange still knows.
        """

    @abstractmethod
    async def coarse_closes(self, pair: str, window: Window) -> Mapping[Slot, float]:
        """Return the closes of those slots of the window that are known from longer candles.

        A longer candle tells the close of its last minute and of no other, so the slots are sparse, but each price is
        exactly what a one-minute candle would have told.
        """

    async def close(self) -> None:
        """Free what it holds; nothing may be asked afterwards. Closing twice is fine."""
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
