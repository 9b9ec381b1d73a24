"""The gateway as a command: HTTP until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import click
from prometheus_client import CollectorRegistry

from services import wiring
from services.core.settings import Settings
from services.core.stopping import stop_signals
from services.core.telemetry import serve_metrics
from services.gateway.server import open_gateway


def serve_gateway(settings: Settings, listen: str | None = None) -> int:
    """Serve until SIGINT or SIGTERM and return the exit code; raises InvalidSettingError for what is set wrong."""
    return asyncio.run(_serve(settings, listen))


async def _serve(settings: Settings, listen: str | None) -> int:
    wiring.configure_logs(settings)
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        if settings.metrics.listen:
            stack.enter_context(serve_metrics(settings.metrics.listen, registry))
        gateway = await stack.enter_async_context(
            open_gateway(registry=registry, **wiring.gateway_arguments(settings, listen))
        )
        click.echo(f"tickwatch gateway: listening on {gateway.url}", err=True)
        await stop.wait()
    return 0
