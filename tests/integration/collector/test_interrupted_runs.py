"""Runs as processes of their own, killed or asked to stop at several places: the next run heals what they left."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.core.model import Slot, Window, last_complete_slot, slot_time
from services.core.store.opening import open_store
from tests.support.exchanges import RunningExchange, running_exchange
from tests.support.needs import ROOT

_PATIENCE_SECONDS = 60.0
_RUN = """
import asyncio, sys
from services.collector.exchanges.base import ExchangeOptions
from services.collector.job import run_once
from services.core.catalog.base import DEFAULT_MARKETS, FixedCatalog
url, store, job_name = sys.argv[1:]
options = {"KRAKEN": ExchangeOptions(base_url=url, retry_seconds=0.01, timeout_seconds=600)}
arguments = {"catalog": FixedCatalog(*DEFAULT_MARKETS), "exchange_options": options, "job_name": job_name or None}
sys.exit(asyncio.run(run_once(store_url=store, **arguments)))
"""
_TELLING_RUN = """
import sys
from services.core.store.sqlite.store import SqliteMetricStore
write = SqliteMetricStore.write
def tell(self, points):
    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    print("writing", file=sys.stderr, flush=True)
    write(self, points)
SqliteMetricStore.write = tell
"""  # a run that asks before it writes, and tells when it begins


@pytest.fixture(scope="module")
def rig() -> Iterator[RunningExchange]:
    """One server for all tests."""
    with running_exchange() as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(rig: RunningExchange) -> None:
    """Begin without faults."""
    rig.clear_faults()


def start(rig: RunningExchange, store: Path, job_name: str = "", program: str = _RUN) -> subprocess.Popen[str]:
    """Start a run on a SQLite file."""
    command = [sys.executable, "-c", program, rig.url, f"sqlite:{store}", job_name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a run; return its exit code, standard output and standard error."""
    out, err = process.communicate(timeout=_PATIENCE_SECONDS)
    return process.returncode, out, err


def stored(path: Path) -> dict[tuple[str, str, int], tuple[float, int]]:
    """Every point of the last two days."""
    now = last_complete_slot(time.time())
    with open_store(f"sqlite:{path}") as store:
        columns = store.read_window(Window(Slot(now - 2880), Slot(now + 2)))
    return {
        (series.metric, series.measure.value, columns.window.start + int(i)): (
            float(columns.values[row, i]),
            int(columns.qualities[row, i]),
        )
        for row, series in enumerate(columns.series)
        for i in np.flatnonzero(columns.qualities[row])
    }


def wait_for(rig: RunningExchange, call: str) -> None:
    """Wait until the exchange has been asked."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while rig.stats()["requests"].get(f"/0/public/{call}", 0) == 0:
        assert time.monotonic() < deadline, f"no {call} within {_PATIENCE_SECONDS} s"
        time.sleep(0.01)  # polls another process


def assert_healed(rig: RunningExchange, broken: Path, tmp_path: Path) -> None:
    """Run again on the file; fail unless it then holds what a run that nobody disturbed leaves.

    Where the minute turns between the two runs they are of different slots: then both are made again.
    """
    rig.clear_faults()
    for attempt in range(5):
        folder = tmp_path / f"attempt-{attempt}"
        folder.mkdir()
        for path in broken.parent.glob(f"{broken.name}*"):
            shutil.copy(path, folder)
        slot = last_complete_slot(time.time())
        codes = [finished(start(rig, folder / name))[0] for name in (broken.name, "whole.db")]
        if slot == last_complete_slot(time.time()):
            break
    else:
        pytest.fail("no two runs fell into one minute")
    assert [0, 0] == codes
    expected, actual = stored(folder / "whole.db"), stored(folder / broken.name)
    # What the disturbed run stored of earlier minutes may reach further back.
    reached = min(slot for _, _, slot in expected)
    assert set(expected) == {key for key in actual if key[2] >= reached}
    for key, (value, quality) in expected.items():
        # The ticker's day volume moves within the minute.
        assert math.isclose(value, actual[key][0], rel_tol=0.02 if key[1] == "volume" else 0.0), key
        assert quality == actual[key][1] or key[2] < slot, key


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("call", ["AssetPairs", "Ticker", "OHLC"])
def test_a_run_ended_while_it_asks_is_healed(
    rig: RunningExchange, tmp_path: Path, call: str, number: signal.Signals
) -> None:
    """Nothing is reported of it, nothing half stored, and the next run leaves what one run leaves."""
    rig.post_fault("slow:600", path=f"/0/public/{call}")
    rig.clear_stats()
    process = start(rig, tmp_path / "broken.db")
    wait_for(rig, call)
    process.send_signal(number)
    code, out, err = finished(process)

    assert (-9 if number is signal.SIGKILL else 143, "", "") == (code, out, err)
    assert {} == stored(tmp_path / "broken.db")
    assert_healed(rig, tmp_path / "broken.db", tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ended_while_it_writes_is_healed(rig: RunningExchange, tmp_path: Path, number: signal.Signals) -> None:
    """A write is all or nothing; a run asked to stop lets the write that has begun come to its end."""
    path = tmp_path / "broken.db"
    open_store(f"sqlite:{path}").close()
    process = start(rig, path, program=_TELLING_RUN + _RUN)
    assert process.stdin is not None
    assert process.stderr is not None
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        assert process.stderr.readline() == "ready\n"
        blocker.execute("BEGIN IMMEDIATE")
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stderr.readline() == "writing\n"
        process.send_signal(number)
        if number is signal.SIGKILL:
            assert finished(process) == (-9, "", "")
        blocker.execute("ROLLBACK")
    if number is signal.SIGTERM:
        assert finished(process) == (143, "", "")

    assert_healed(rig, path, tmp_path)


def test_a_run_killed_after_its_write_is_recorded_by_the_next(rig: RunningExchange, tmp_path: Path) -> None:
    """The points are there, the run's record is not: the next run of the slot counts and records them."""
    path = tmp_path / "broken.db"
    assert finished(start(rig, path))[0] == 0
    before = stored(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as editor:
        editor.execute("DELETE FROM runs")

    code, out, _ = finished(start(rig, path))

    assert code == 0
    assert before.items() <= stored(path).items()
    assert json.loads(out)["points"] >= 9
    with open_store(f"sqlite:{path}") as store:
        assert store.newest_run_slot() == max(slot for _, _, slot in stored(path))


def test_two_runs_at_once_on_one_file_leave_the_points_of_one(rig: RunningExchange, tmp_path: Path) -> None:
    """A CronJob may start twice: both succeed, and nobody can tell that there were two."""
    path = tmp_path / "broken.db"
    processes = [start(rig, path) for _ in range(2)]
    assert [0, 0] == [finished(process)[0] for process in processes]
    assert_healed(rig, path, tmp_path)


def test_one_json_line_tells_what_a_run_did(rig: RunningExchange, tmp_path: Path) -> None:
    """On standard output, with the slot that the Job's name gives: the minute before its scheduled one."""
    slot = last_complete_slot(time.time())

    code, out, err = finished(start(rig, tmp_path / "a.db", f"tickwatch-collector-{slot + 1}"))

    (line,) = out.splitlines()
    told = json.loads(line)
    assert (0, "") == (code, err)
    assert f"{slot_time(slot):%Y-%m-%dT%H:%M:00Z}" == told["slot"]
    assert ("ok", {}, 0) == (
        told["exchanges"]["KRAKEN"]["outcome"],
        told["exchanges"]["KRAKEN"]["failures"],
        told["exit_code"],
    )
    # Once the minute has turned, the ticker is too late for the slot, and candles tell two measures of three.
    in_time = last_complete_slot(time.time()) == slot
    assert told["points"] >= (9 if in_time else 6)
    assert told["repaired"] > 3000


def test_exit_codes(rig: RunningExchange, tmp_path: Path) -> None:
    """1: an exchange failed. 2: a store that there cannot be, a slot to come. 3: a store out of reach."""
    rig.post_fault("kraken_unavailable")
    assert finished(start(rig, tmp_path / "a.db"))[0] == 1
    rig.clear_faults()
    future = last_complete_slot(time.time()) + 12
    assert finished(start(rig, tmp_path / "a.db", f"job-{future}"))[0] == 2
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        code, out, _ = finished(start(rig, tmp_path / "a.db"))
    assert code == 3
    assert json.loads(out)["exit_code"] == 3
