"""A market that needs no internet: plausible prices, quiet and busy hours, and bursts of volume to be alerted of.

Every value is a pure function of seed, pair and slot, so that history and live agree, a restart continues where it
was, and two processes see one market. Prices are value noise in octaves of 1 minute to 11 days, each octave's
amplitude growing as the square root of its length, which moves like a random walk that stays near its level.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.collector.exchanges.base import Candles, Exchange, ExchangeOptions, Sample, Ticker
from services.core.clock import Clock
from services.core.errors import ExchangeError, ExchangeRefusedError
from services.core.model import DAY_SLOTS, Floats, Slot, Slots, Window, last_complete_slot

BURST_SLOTS = 10
"""Each pair has one burst of volume in every so many slots, each pair at minutes of its own."""
BURST_FACTOR = 15.0
"""A burst's volume over the minute's ordinary one. With one burst in ten minutes the hour's mean is 2.4 ordinary
minutes, and three times that is well below a burst: every burst breaks a rule of three times the mean."""

_LEVELS = {"BTC": (65_000.0, 2.5), "ETH": (3_200.0, 28.0), "XRP": (0.55, 14_000.0)}  # price, units a minute
_MINUTE_MOVE = 6e-4  # about Bitcoin's standard deviation of a minute's logarithmic return
_OCTAVES = 15


def build(options: ExchangeOptions, clock: Clock) -> Exchange:
    """Build the market that the options' seed names."""
    return SimulatedExchange(options.seed, clock)


class SimulatedExchange(Exchange):
    """A market in US dollars; it has every pair whose name ends in USD."""

    name = "SIM"
    candle_reach = None
    coarse_minutes = 1

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock

    async def sample(self, pairs: Sequence[str]) -> Sample:
        tickers: dict[str, Ticker] = {}
        failures: dict[str, ExchangeError] = {}
        slot = last_complete_slot(self._clock.now())
        for pair in pairs:
            try:
                day = self._candles(pair, Window.ending(slot + 1))
                tickers[pair] = Ticker(float(day.closes[-1]), math.fsum(day.volumes.tolist()))
            except ExchangeError as error:
                failures[pair] = error
        return Sample(tickers, failures)

    async def candles(self, pair: str, window: Window) -> Candles:
        now = last_complete_slot(self._clock.now()) + 1
        return self._candles(pair, Window(Slot(min(window.start, now)), Slot(min(window.end, now))))

    async def older_candles(self, pair: str, window: Window) -> AsyncIterator[Candles]:
        for start in range(window.start, window.end, DAY_SLOTS):
            yield await self.candles(pair, Window(Slot(start), Slot(min(start + DAY_SLOTS, window.end))))

    async def coarse_closes(self, pair: str, window: Window) -> Mapping[Slot, float]:
        return (await self.candles(pair, window)).by_slot()

    def _candles(self, pair: str, window: Window) -> Candles:
        if not re.fullmatch(r"[A-Z0-9]{1,12}USD", pair):
            raise ExchangeRefusedError(self.name, "no such pair: pairs here end in USD, as BTCUSD", pair)
        slots: Slots = np.arange(window.start, window.end, dtype=np.int64)
        key = zlib.crc32(f"{self._seed}:{pair}".encode())
        price, volume = self._level(pair.removesuffix("USD"), key)
        decimals = 4 - math.floor(math.log10(price))
        walk = sum(
            (_MINUTE_MOVE * 2 ** (k / 2) * _smooth_noise(key + 101 * k, slots, 2**k) for k in range(_OCTAVES)),
            start=np.zeros(len(slots)),
        )
        mood = 0.4 * _smooth_noise(key + 7, slots, 360) + 0.15 * _noise(key + 8, slots)
        burst = slots % BURST_SLOTS == _hash(key + 9, slots // BURST_SLOTS) % BURST_SLOTS
        volumes = volume * np.exp(mood) * np.where(burst, BURST_FACTOR, 1.0)
        # Rounded as an exchange rounds, which also hides the last bit in which exp may differ between machines.
        return Candles(window, slots, np.round(price * np.exp(walk), max(1, decimals)), np.round(volumes, 6))

    @staticmethod
    def _level(base: str, key: int) -> tuple[float, float]:
        if base in _LEVELS:
            return _LEVELS[base]
        price = 10.0 ** (key % 500 / 100 - 1.5)
        return price, 50_000.0 / price


def _hash(key: int, numbers: Slots) -> Slots:
    """Mix each number with the key (splitmix64, https://prng.di.unimi.it/splitmix64.c) to 63 bits."""
    with np.errstate(over="ignore"):
        z: NDArray[np.uint64] = numbers.astype(np.uint64) + np.uint64(key + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(1)).astype(np.int64)


def _noise(key: int, numbers: Slots) -> Floats:
    """A number in [-1, 1) for each number."""
    return _hash(key, numbers) / 2.0**62 - 1.0


def _smooth_noise(key: int, slots: Slots, period: int) -> Floats:
    """Noise at multiples of the period, joined smoothly."""
    place, offset = np.divmod(slots, period)
    share = offset / period
    share = share * share * (3 - 2 * share)
    return _noise(key, place) * (1 - share) + _noise(key, place + 1) * share
