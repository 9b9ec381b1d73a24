"""Which exchanges there are. Modules are imported when asked for, so that a run pays only for the exchange it calls."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import cast

from services.collector.exchanges.base import Exchange, ExchangeOptions
from services.core.catalog.base import Market
from services.core.clock import Clock
from services.core.errors import InvalidSettingError

Builder = Callable[[ExchangeOptions, Clock], Exchange]

_MODULES = {"BINANCE": "binance", "COINBASE": "coinbase", "KRAKEN": "kraken", "SIM": "simulated"}
_ALIASES = {"SIMULATED": "SIM"}

EXCHANGE_NAMES: tuple[str, ...] = tuple(sorted(_MODULES))
"""Every exchange's name, as metrics bear it."""


def exchange_name(given: str, field: str = "exchange") -> str:
    """Return the name as metrics bear it for one in any case; `simulated` is SIM.

    Raises InvalidSettingError naming `field` and the nearest name for one that is not known.
    """
    name = _ALIASES.get(given.upper(), given.upper())
    if name in _MODULES:
        return name
    near = difflib.get_close_matches(name, [*EXCHANGE_NAMES, *_ALIASES], n=1)
    hint = f"did you mean {_ALIASES.get(near[0], near[0])}?" if near else f"known: {', '.join(EXCHANGE_NAMES)}"
    raise InvalidSettingError(field, f"{given!r} is not an exchange", hint)


def default_market(name: str) -> Market:
    """Return what is tracked of an exchange, named as metrics bear it, where nobody says what."""
    quote = "USDT" if name == "BINANCE" else "USD"  # it has no dollars
    return Market(name, tuple(f"{base}{quote}" for base in ("BTC", "ETH", "XRP")))


def build_exchange(name: str, options: ExchangeOptions, clock: Clock) -> Exchange:
    """Build the exchange of this name; raises InvalidSettingError for an unknown one. Nothing is called yet."""
    module = importlib.import_module(f"services.collector.exchanges.{_MODULES[exchange_name(name)]}")
    return cast(Builder, module.build)(options, clock)
