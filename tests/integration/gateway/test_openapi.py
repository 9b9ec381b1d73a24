"""The gateway keeps to its own description: whatever OpenAPI allows is answered as it says, and the rest is refused."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.alerter import LogWriter, many
from tests.support.gateway import serve
from tests.support.query import make_market, make_store

STREAMS = r"/stream$"
"""They do not end, so a generated request for one would not either; test_streams.py is about them."""


BEYOND_SCHEMA = {
    "start_time",
    "end_time",
    "time",
    "interval",
    "window",
    "page_token",
    "rule",
    "rules",
    "selector",
    "duration",
    "body",
}
"""Fields that may be refused though their form is right: whole minutes, from 1970 to 2100, a start before its end, a
window within a day, a token that was issued, one condition to a rule and one subject to a test, names and
globs of what there may be."""


def refused_field(body: Any) -> str:
    """Return the first step of the field that a refusal names."""
    for detail in body["error"]["details"]:
        for violation in detail.get("fieldViolations", []):
            return re.split(r"[.\[]", str(violation["field"]))[0]
    return ""


@pytest.fixture
def address() -> Iterator[str]:
    """A gateway with a market and breaches, in a thread of its own; its address."""
    started, stop = threading.Event(), asyncio.Event()
    known: dict[str, Any] = {}

    async def run() -> None:
        store = make_store(make_market(["KRAKEN:BTCUSD", "KRAKEN:ETHUSD"], holes=0.1))
        known["loop"] = asyncio.get_running_loop()
        async with serve(store, requests_per_second=None) as gateway:
            LogWriter(store.breach_log).append(*many(5))
            known["url"] = gateway.server.url
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="tickwatch-test-gateway")
    thread.start()
    assert started.wait(60)
    yield known["url"]
    known["loop"].call_soon_threadsafe(stop.set)
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_it_does_as_it_says(address: str, mode: GenerationMode) -> None:
    """Good requests and bad ones: status, content type and body are as described, and nothing is a failure of ours."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json").exclude(path_regex=STREAMS)
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.path_parameters or operation.body):
            continue  # there is nothing that could be wrong

        @hypothesis.settings(
            max_examples=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal asked
            response = case.call()
            beyond = response.status_code == 400 and refused_field(response.json()) in BEYOND_SCHEMA
            case.validate_response(response, excluded_checks=[positive_data_acceptance] if beyond else [])
            asked += 1

        ask()

    assert asked > 100
