"""The simulated market is one market for ever, and lively enough to be watched."""

from __future__ import annotations

import numpy as np
import pytest

from services.collector.exchanges.simulated import BURST_FACTOR, BURST_SLOTS, SimulatedExchange
from services.core.clock import ManualClock
from services.core.model import Slot, Window

END = Slot(29_900_000)
PAIRS = ["BTCUSD", "ETHUSD", "XRPUSD"]
FIRST = [[61374.2, 61361.7, 61373.1], [2.134858, 1.897226, 2.063498]]
"""Closes and volumes of BTCUSD, seed 1, in the three slots before END."""


def market(seed: int = 1, now: float = END * 60.0) -> SimulatedExchange:
    """A market at a moment."""
    return SimulatedExchange(seed, ManualClock(now))


async def test_history_and_live_agree_across_restarts() -> None:
    """A slot's candle is the same whenever and by whomever it is asked for."""
    early = await market(now=(END - 500) * 60.0).candles("BTCUSD", Window.ending(END, 1000))
    late = await market().candles("BTCUSD", Window.ending(END, 1000))

    assert END - 500 == early.window.end
    assert early.closes.tolist() == late.within(early.window).closes.tolist()
    assert early.volumes.tolist() == late.within(early.window).volumes.tolist()


async def test_these_values_are_for_ever() -> None:
    """Changing the formula would tear a seam into every store of this market; so some values stand here."""
    candles = await market().candles("BTCUSD", Window.ending(END, 3))
    assert FIRST == [candles.closes.tolist(), candles.volumes.tolist()]


async def test_another_seed_is_another_market() -> None:
    """And another pair another walk."""
    window = Window.ending(END, 100)
    walks = [(await market(seed).candles(pair, window)).closes for seed in (1, 2) for pair in ("BTCUSD", "T0001USD")]
    assert not any(np.array_equal(a, b) for i, a in enumerate(walks) for b in walks[:i])


@pytest.mark.parametrize("pair", PAIRS)
async def test_prices_are_plausible(pair: str) -> None:
    """Over a month a price moves by percents a day and stays within its order of magnitude; each minute it may move."""
    closes = (await market().candles(pair, Window.ending(END, 43_200))).closes
    returns = np.diff(np.log(closes))

    assert 3e-4 < returns.std() < 2e-3
    assert 0.01 < np.abs(np.log(closes[1440:] / closes[:-1440])).mean() < 0.2
    assert closes.max() / closes.min() < 4
    assert (returns != 0).mean() > 0.9


@pytest.mark.parametrize("pair", PAIRS)
async def test_every_burst_is_far_above_its_hour(pair: str) -> None:
    """One in each ten minutes, above three times the mean of the hour before, and no other minute is."""
    volumes = (await market().candles(pair, Window.ending(END, 3000))).volumes
    means = np.convolve(volumes, np.ones(60) / 60, "valid")[:-1]
    breaches = np.flatnonzero(volumes[60:] > 3 * means) + 60

    assert (volumes > 0).all()
    assert [1] * 294 == [int(count) for count in np.bincount(breaches // BURST_SLOTS)[6:]]
    assert BURST_FACTOR * BURST_SLOTS / (BURST_SLOTS - 1 + BURST_FACTOR) > 3


async def test_a_viewer_need_not_wait_long_for_a_burst() -> None:
    """Of the three pairs that are tracked by default one bursts every few minutes."""
    window = Window.ending(END, 3000)
    volumes = [(await market().candles(pair, window)).volumes for pair in PAIRS]
    bursts = sorted(int(i) for v in volumes for i in np.flatnonzero(v > 5 * np.median(v)))

    assert np.mean(np.diff(bursts)) < 4
    assert max(np.diff(bursts)) <= 2 * BURST_SLOTS


async def test_the_ticker_is_the_newest_minute_s() -> None:
    """So that a run without candles would store nothing else."""
    exchange = market()
    ticker = (await exchange.sample(["BTCUSD"])).tickers["BTCUSD"]
    day = await exchange.candles("BTCUSD", Window.ending(END))

    assert ticker.price == day.closes[-1]
    assert ticker.volume_24h == pytest.approx(day.volumes.sum(), rel=1e-12)
