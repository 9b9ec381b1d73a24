"""Killed by SIGKILL at every stage of a slot and started anew, the log is that of a run that nobody interrupted."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.core.clock import ManualClock
from tests.support.buckets import own_bucket, store_url
from tests.support.engine_process import AAA, BBB, RULES, opened, run_until_killed
from tests.support.live import FIRST, Live, Told, texts
from tests.support.needs import require_influxdb

CALM = [1.0, 1.0, 1.0, 9.0, 9.0, 1.0]
"""An episode opens at slot 3 and is open still at slot 5."""

Begun = Callable[[], str]
"""Makes a store in which a log of six slots is, and what slot 7 finds; returns its URL."""


@pytest.fixture(params=["sqlite", "influxdb"])
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Begun]:
    """Stores that are all alike, each of its own."""
    with contextlib.ExitStack() as stack:
        if request.param == "influxdb":
            influxdb = require_influxdb()

            def bucket() -> str:
                url = store_url(influxdb, stack.enter_context(own_bucket(influxdb)))
                begin(url)
                return url

            yield bucket
        else:
            begin(f"sqlite:{tmp_path / 'begun.db'}")
            copies = iter(range(1000))

            def copy() -> str:
                return f"sqlite:{shutil.copy(tmp_path / 'begun.db', tmp_path / f'{next(copies)}.db')}"

            yield copy


def live_on(url: str) -> Live:
    """Return an engine on a store, its clock at the slot after the script's last."""
    clock = ManualClock((FIRST + 8) * 60.0 + 3)
    live = Live(RULES, [AAA, BBB], store=opened(url, clock))
    live.clock.set(clock.now())
    return live


def begin(url: str) -> None:
    """Write a log of six slots, and then what slot 7 finds: a breach, something missing, a late point, an end."""
    with opened(url, ManualClock((FIRST + 8) * 60.0)) as store:
        live = Live(RULES, [AAA, BBB], store=store)
        live.step()
        for slot, value in enumerate(CALM):
            live.at(slot, 3)
            live.write([Told(AAA, slot, value), Told(BBB, slot, 1.0)])
            live.run(slot, "SIM")
            live.step()
        live.write([Told(AAA, 6, 1.0), Told(AAA, 7, 30.0), Told(BBB, 4, 50.0)])
        live.run(7, "SIM")


def logged(url: str) -> tuple[list[str], str]:
    """Evaluate what is left to evaluate, and return the log's events and the checkpoint's state, but for its mark."""
    live = live_on(url)
    with live.store:
        live.step()
        live.settle(7)
        events, state = texts(live.events), live.state
        return events, f"{state.evaluated} {state.ahead} {texts(each.opening for each in state.episodes)}"


def test_killed_before_every_call_to_the_store(begun: Begun) -> None:
    """A process is killed before its first call, its second, and so on; whoever follows completes the same log."""
    now = (FIRST + 8) * 60.0 + 3
    url = begun()
    whole = run_until_killed(url, now, -1)
    expected = logged(url)

    assert whole.code == 0
    assert whole.calls > 8
    assert {'"kind": "breach"', '"kind": "resolved"'} <= {word for text in expected[0] for word in text.split(", ")}
    assert sum('"late": true' in text for text in expected[0]) > 0
    for call in range(whole.calls):
        url = begun()

        assert run_until_killed(url, now, call).code == -signal.SIGKILL
        assert logged(url) == expected, f"killed before call {call}"
