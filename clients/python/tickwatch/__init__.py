"""The Python client of Tickwatch: the last 24 hours of every market metric, and what comes next.

    import asyncio
    import tickwatch

    async def main():
        async with tickwatch.Client("127.0.0.1:50051") as client:
            history = await client.get_history("KRAKEN:BTCUSD", "price")
            print(history.times[-1], history.values[-1])
            async for batch in client.watch_points(metrics=["KRAKEN:BTCUSD"]):
                print(batch.time, batch.values)

    asyncio.run(main())

Generated messages are in `tickwatch.v1`, for whoever wants the wire itself.
"""

from tickwatch.client import Client
from tickwatch.errors import (
    CursorExpiredError,
    DeadlineExceededError,
    Error,
    InvalidInputError,
    MetricNotFoundError,
    UnavailableError,
)
from tickwatch.results import History, MeasureSummary, Metric, PointBatch, Ranking, Rankings, TimeRange

__all__ = [
    "Client",
    "CursorExpiredError",
    "DeadlineExceededError",
    "Error",
    "History",
    "InvalidInputError",
    "MeasureSummary",
    "Metric",
    "MetricNotFoundError",
    "PointBatch",
    "Ranking",
    "Rankings",
    "TimeRange",
    "UnavailableError",
]
