"""Ask a release everything that a user would: list, history, rank, watch, and the alerter's stream.

`helm test` runs it in a pod of its own, through the Services, with the published client. It waits for the first points,
because a release that has just been installed has none; everything after that has to work at once.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from contextlib import aclosing

import tickwatch

DEADLINE = time.monotonic() + float(os.environ["TICKWATCH_TEST_WAIT_SECONDS"])
MINUTES = 1440
STREAM_SECONDS = 90.0
WHERE_TO_LOOK = """Who is not Running, and why: kubectl get pods; kubectl describe pod NAME
What the last runs reported: kubectl logs -l app.kubernetes.io/component=collector --tail=1
What query says of its store: kubectl logs -l app.kubernetes.io/component=query --tail=5"""


def credentials() -> tickwatch.Credentials:
    """Return what the chart has given us to show, under the names that the commands read too."""
    given = {name: os.environ.get(f"TICKWATCH_{name.upper()}") for name in ("ca", "cert", "key", "token_file")}
    return tickwatch.Credentials(tls="TICKWATCH_TLS" in os.environ, **given)


async def first_metric(client: tickwatch.Client) -> tickwatch.Metric:
    """Wait for a metric with a point."""
    while True:
        try:
            async for metric in client.list_metrics():
                return metric
            problem = "there are no metrics"
        except tickwatch.Error as error:
            problem = str(error)
        if time.monotonic() > DEADLINE:
            raise SystemExit(f"FAILED: {problem}; look at the collector's Jobs, and at the logs of query")
        await asyncio.sleep(2)


async def first_history(client: tickwatch.Client, metric: tickwatch.Metric) -> tuple[tickwatch.History, list[float]]:
    """Return the history of a metric and what is known of it. Of two servers one reads a first point a second later."""
    while True:
        history = await client.get_history(metric.name, metric.measures[0].measure)
        assert len(history.values) == MINUTES, len(history.values)
        if known := [value for value in history.values if not math.isnan(value)]:
            return history, known
        if time.monotonic() > DEADLINE:
            raise SystemExit(f"FAILED: {metric.name} is listed and has no point in its history")
        await asyncio.sleep(2)


async def ask_queries() -> None:
    """Ask the query service."""
    async with tickwatch.Client(os.environ["TICKWATCH_SERVER"], credentials=credentials()) as client:
        metric = await first_metric(client)
        print(f"list: {metric.name}, newest {metric.measures[0].last_time:%H:%M} UTC")
        history, known = await first_history(client, metric)
        print(f"history: {len(known)} of {len(history.values)} minutes, the last value {known[-1]:g}")
        rankings = await client.rank_metrics("price")
        assert rankings.rankings or rankings.unranked, "a ranking without any metric"
        print(f"rank: {rankings.ranked_count} ranked, {len(rankings.unranked)} with fewer than two points")
        async with asyncio.timeout(STREAM_SECONDS), aclosing(client.watch_points()) as batches:
            async for batch in batches:
                print(f"watch: {len(batch.values)} points of {batch.time:%H:%M} UTC")
                return


async def ask_alerter() -> None:
    """Open the alerter's stream: a snapshot first, whatever has been breached."""
    shown = credentials()
    async with (
        tickwatch.AlertClient(os.environ["TICKWATCH_ALERTS"], credentials=shown) as client,
        asyncio.timeout(STREAM_SECONDS),
    ):
        while True:
            try:
                async with aclosing(client.watch_breaches()) as items:
                    snapshot = await anext(items)
            except tickwatch.UnavailableError as error:
                print(f"breaches: {error}")
                await asyncio.sleep(2)
            else:
                evaluated = f"{snapshot.evaluated_time:%H:%M} UTC"
                print(f"breaches: {len(snapshot.episodes)} open, evaluated to {evaluated}")
                return


async def main() -> None:
    """Ask both; the alerter where the release has one."""
    await ask_queries()
    if os.environ.get("TICKWATCH_ALERTS"):
        await ask_alerter()
    print("PASSED")


asyncio.run(main())
