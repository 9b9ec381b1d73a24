"""The catalog as a YAML file that people write.

    markets:
      - exchange: KRAKEN
        pairs: [BTCUSD, ETHUSD]
        measures: [price, volume_1m]   # all of them where this is left out

It is read anew at each `read`, so that an edit counts from the next run on.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from services.core.catalog.base import Catalog, Market
from services.core.documents import Node, load_document
from services.core.errors import InvalidInputError, InvalidSettingError
from services.core.reading import Reading
from services.core.suggesting import nearest
from services.core.words import MEASURES, Measure, Metric


class FileCatalog(Catalog):
    """Markets from a file; `exchanges` are the names that may stand in it, None is any."""

    def __init__(self, path: Path, *, exchanges: Collection[str] | None = None) -> None:
        self._path = path
        self._exchanges = exchanges

    def read(self) -> tuple[Market, ...]:
        """Return the markets, or raise one InvalidSettingError that lists every problem with its line."""
        document = load_document(self._path)
        reading = CatalogReading(self._exchanges)
        markets = reading.markets(document) if document else {}
        if not markets and not reading.problems:
            raise InvalidSettingError(
                str(self._path), "there are no markets", "as in {exchange: KRAKEN, pairs: [BTCUSD]}"
            )
        reading.finish(self._path)
        return tuple(sorted(markets.values(), key=lambda market: market.exchange))


class CatalogReading(Reading):
    """One reading of a catalog; `exchanges` are the names that may stand in it, None is any."""

    def __init__(self, exchanges: Collection[str] | None) -> None:
        super().__init__()
        self._exchanges = exchanges

    def markets(self, document: Node) -> dict[str, Market]:
        """Return the markets of a document by exchange."""
        found: dict[str, Market] = {}
        node = self.mapping(document, {"markets"}).get("markets")
        for item in self.items(node) if node else []:
            market = self.market(item)
            if market is not None and market.exchange in found:
                self.say(item.where, f"the exchange {market.exchange} is given twice", "put its pairs into one market")
            elif market is not None:
                found[market.exchange] = market
        return found

    def market(self, node: Node) -> Market | None:
        """Return one market, of what is right in it; None where not even its exchange is."""
        fields = self.mapping(node, {"exchange", "pairs", "measures"})
        for missing in sorted({"exchange", "pairs"} - fields.keys()) if fields else []:
            self.say(node.where, f"a market needs the key {missing!r}")
        exchange = self._exchange(fields["exchange"]) if "exchange" in fields else ""
        pairs = self._pairs(fields["pairs"]) if "pairs" in fields else ()
        measures = self._measures(fields["measures"]) if "measures" in fields else MEASURES
        return Market(exchange, pairs, measures) if exchange else None

    def _exchange(self, node: Node) -> str:
        name = self.text(node)
        if name and self._exchanges is not None and name not in self._exchanges:
            self.say(node.where, f"unknown exchange {name!r}", nearest(name.upper(), self._exchanges))
            return ""
        return name

    def _pairs(self, node: Node) -> tuple[str, ...]:
        pairs: dict[str, str] = {}
        for item in self.items(node):
            pair = self.text(item)
            try:
                Metric.parse(f"X:{pair}")
            except InvalidInputError:
                if pair:
                    self.say(item.where, f"{pair!r} is not a pair", "upper case letters and digits, as BTCUSD")
                continue
            if pair in pairs:
                self.say(item.where, f"the pair {pair} is given twice", f"first at {pairs[pair]}")
            pairs.setdefault(pair, item.where)
        if not pairs and not self.problems:
            self.say(node.where, "there are no pairs", "as in [BTCUSD, ETHUSD]")
        return tuple(pairs)

    def _measures(self, node: Node) -> tuple[Measure, ...]:
        measures: dict[Measure, str] = {}
        for item in self.items(node):
            name = self.text(item)
            if name and name not in list(Measure):
                self.say(item.where, f"unknown measure {name!r}", nearest(name, [measure.value for measure in Measure]))
            elif name and name in measures:
                self.say(item.where, f"the measure {name} is given twice", f"first at {measures[Measure(name)]}")
            elif name:
                measures[Measure(name)] = item.where
        if not measures and not self.problems:
            self.say(node.where, "there are no measures", "leave the key out for all of them")
        return tuple(measure for measure in MEASURES if measure in measures)
