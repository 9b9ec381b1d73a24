"""The alerter as a command: evaluates, notifies and serves on one store, until it is asked to end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import click
from prometheus_client import CollectorRegistry

from services import wiring
from services.alerter.server import open_alerter
from services.core.settings import Settings
from services.core.stopping import stop_signals, until_stopped
from services.core.telemetry import serve_metrics


def serve_alerts(settings: Settings, listen: str | None = None) -> int:
    """Serve until SIGINT or SIGTERM and return the exit code.

    Raises InvalidSettingError for what cannot be listened on or read, StoreRefusedError for a store that refuses.
    """
    return asyncio.run(_serve(settings, listen))


async def _serve(settings: Settings, listen: str | None) -> int:
    wiring.configure_logs(settings)
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        store = stack.enter_context(wiring.open_store(settings))
        cluster = stack.enter_context(wiring.cluster_side(settings))
        arguments = wiring.alerter_arguments(settings, **cluster, listen=listen)
        if settings.metrics.listen:
            stack.enter_context(serve_metrics(settings.metrics.listen, registry))
        server = await stack.enter_async_context(open_alerter(store=store, registry=registry, **arguments))
        click.echo(f"tickwatch alerter: listening on {server.address}", err=True)
        # A store that refuses to be read ends the process; one out of reach is waited for.
        await until_stopped(stop, server.ready())
        await stop.wait()
    return 0
