"""An engine in a process of its own that kills itself, as SIGKILL does, at a call to the store.

`python -m tests.support.engine_process URL NOW CALL`: evaluates once at that moment (seconds since 1970), dying right
before its call number CALL, or -1: never. Prints how many calls it has made.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import NamedTuple

from services.core.clock import Clock, ManualClock
from services.core.rules import Missing, Ratio, Rule
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support.live import Fate, Live, series

RULES = (Rule("surge", Ratio(window=10, min_points=3, resolve_after=2)), Rule("missing", Missing(2)))
AAA, BBB = series("SIM:AAA"), series("SIM:BBB")


class Ended(NamedTuple):
    """How such a process ended: its exit code, negative for a signal, and the number of calls it has told of."""

    code: int
    calls: int


def run_until_killed(url: str, now: float, call: int) -> Ended:
    """Run one to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.engine_process", url, str(now), str(call)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, int(done.stdout or 0))


def opened(url: str, clock: Clock) -> MetricStore:
    """Open a store by its URL; the token for an InfluxDB is where its address is, in the environment."""
    return open_store(url, clock=clock, token=os.environ.get("INFLUXDB_V2_TOKEN", ""))


def main(url: str, now: float, call: int) -> None:
    """Evaluate once."""
    clock = ManualClock(now)
    with opened(url, clock) as store:
        live = Live(RULES, [AAA, BBB], store=store)
        live.clock.set(now)
        fate = Fate(None if call < 0 else call, die=lambda: os.kill(os.getpid(), signal.SIGKILL))
        live.start(fate)
        live.step()
        sys.stdout.write(str(fate.calls))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
