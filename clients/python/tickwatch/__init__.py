"""The Python client of Tickwatch: the last 24 hours of every market metric, what comes next, and what breaks a rule.

    import asyncio
    import tickwatch

    async def main():
        async with tickwatch.Client("127.0.0.1:50051") as client:
            history = await client.get_history("KRAKEN:BTCUSD", "price")
            print(history.times[-1], history.values[-1])
        async with tickwatch.AlertClient("127.0.0.1:50052") as alerts:
            async for item in alerts.watch_breaches(metrics=["KRAKEN:*"]):
                if isinstance(item, tickwatch.Event):
                    print(item.time, item.message)

    asyncio.run(main())

Generated messages are in `tickwatch.v1`, for whoever wants the wire itself.
"""

import importlib
from typing import TYPE_CHECKING

from tickwatch.client import Client
from tickwatch.credentials import Credentials
from tickwatch.errors import (
    CursorExpiredError,
    DeadlineExceededError,
    Error,
    InvalidInputError,
    MetricNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    RuleNotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from tickwatch.results import History, MeasureSummary, Metric, PointBatch, Ranking, Rankings, TimeRange

if TYPE_CHECKING:
    from tickwatch.alert_client import AlertClient
    from tickwatch.alert_results import (
        Bookmark,
        BreachPage,
        DeadLetter,
        Episode,
        Event,
        Explanation,
        Frozen,
        Missing,
        Ratio,
        Rule,
        Rules,
        RuleStatus,
        RuleTest,
        Selector,
        Silence,
        Snapshot,
        Threshold,
    )

__all__ = [
    "AlertClient",
    "Bookmark",
    "BreachPage",
    "Client",
    "Credentials",
    "CursorExpiredError",
    "DeadLetter",
    "DeadlineExceededError",
    "Episode",
    "Error",
    "Event",
    "Explanation",
    "Frozen",
    "History",
    "InvalidInputError",
    "MeasureSummary",
    "Metric",
    "MetricNotFoundError",
    "Missing",
    "NotFoundError",
    "PermissionDeniedError",
    "PointBatch",
    "Ranking",
    "Rankings",
    "Ratio",
    "Rule",
    "RuleNotFoundError",
    "RuleStatus",
    "RuleTest",
    "Rules",
    "Selector",
    "Silence",
    "Snapshot",
    "Threshold",
    "TimeRange",
    "UnauthenticatedError",
    "UnavailableError",
]


def __getattr__(name: str) -> object:
    # Whoever asks for prices does not wait for what alerts are made of.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "tickwatch.alert_client" if name == "AlertClient" else "tickwatch.alert_results"
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
