"""Killed by SIGKILL at every stage of a slot and started anew, the log is that of a run that nobody interrupted."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from services.core.clock import ManualClock
from services.core.store.opening import open_store
from tests.support.engine_process import AAA, BBB, RULES, run_until_killed
from tests.support.live import FIRST, Live, Told, texts

CALM = [1.0, 1.0, 1.0, 9.0, 9.0, 1.0]
"""An episode opens at slot 3 and is open still at slot 5."""


def live_on(url: str) -> Live:
    """Return an engine on a store, its clock at the slot after the script's last."""
    clock = ManualClock((FIRST + 8) * 60.0 + 3)
    live = Live(RULES, [AAA, BBB], store=open_store(url, clock=clock))
    live.clock.set(clock.now())
    return live


def begin(file: Path) -> None:
    """Write a log of six slots, and then what slot 7 finds: a breach, something missing, a late point, an end."""
    with open_store(f"sqlite:{file}", clock=ManualClock((FIRST + 8) * 60.0)) as store:
        live = Live(RULES, [AAA, BBB], store=store)
        live.step()
        for slot, value in enumerate(CALM):
            live.at(slot, 3)
            live.write([Told(AAA, slot, value), Told(BBB, slot, 1.0)])
            live.run(slot, "SIM")
            live.step()
        live.write([Told(AAA, 6, 1.0), Told(AAA, 7, 30.0), Told(BBB, 4, 50.0)])
        live.run(7, "SIM")


def logged(file: Path) -> tuple[list[str], str]:
    """Evaluate what is left to evaluate, and return the log's events and the checkpoint's state, but for its mark."""
    live = live_on(f"sqlite:{file}")
    with live.store:
        live.step()
        live.settle(7)
        events, state = texts(live.events), live.state
        return events, f"{state.evaluated} {state.ahead} {texts(each.opening for each in state.episodes)}"


def test_killed_before_every_call_to_the_store(tmp_path: Path) -> None:
    """A process is killed before its first call, its second, and so on; whoever follows completes the same log."""
    begin(tmp_path / "begun.db")
    now = (FIRST + 8) * 60.0 + 3
    shutil.copy(tmp_path / "begun.db", tmp_path / "whole.db")
    whole = run_until_killed(f"sqlite:{tmp_path / 'whole.db'}", now, -1)
    expected = logged(tmp_path / "whole.db")

    assert whole.code == 0
    assert whole.calls > 8
    assert {'"kind": "breach"', '"kind": "resolved"'} <= {word for text in expected[0] for word in text.split(", ")}
    assert sum('"late": true' in text for text in expected[0]) > 0
    for call in range(whole.calls):
        file = tmp_path / f"{call}.db"
        shutil.copy(tmp_path / "begun.db", file)

        assert run_until_killed(f"sqlite:{file}", now, call).code == -signal.SIGKILL
        assert logged(file) == expected, f"killed before call {call}"
