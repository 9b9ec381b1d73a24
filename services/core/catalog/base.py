"""What is tracked. A catalog says which metrics are expected, whether or not anybody has seen them yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from services.core.words import MEASURES, Measure, Metric


@dataclass(frozen=True, slots=True)
class Market:
    """Pairs of one exchange and what is measured of them."""

    exchange: str
    """Upper case, such as KRAKEN."""
    pairs: tuple[str, ...]
    """Our own names, upper case, such as BTCUSD; each once."""
    measures: tuple[Measure, ...] = MEASURES

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """One metric a pair."""
        return tuple(Metric(self.exchange, pair) for pair in self.pairs)


class Catalog(ABC):
    """Where the markets are declared."""

    @abstractmethod
    def read(self) -> tuple[Market, ...]:
        """Return the markets as declared now, each exchange once, in ascending order.

        Raises InvalidSettingError naming what is wrong and where.
        """


class FixedCatalog(Catalog):
    """Markets given once, as by the command line."""

    def __init__(self, *markets: Market) -> None:
        self._markets = tuple(sorted(markets, key=lambda market: market.exchange))

    def read(self) -> tuple[Market, ...]:
        return self._markets


DEFAULT_MARKETS = (Market("KRAKEN", ("BTCUSD", "ETHUSD", "XRPUSD")),)
"""What is tracked where nobody declared anything."""
