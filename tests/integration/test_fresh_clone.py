"""A stranger's first minutes: a fresh clone, `make run`, the commands it prints, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.needs import ROOT, lacking, require, require_program

SETTINGS = {
    "TICKWATCH_QUERY__LISTEN": "127.0.0.1:0",
    "TICKWATCH_ALERTER__LISTEN": "127.0.0.1:0",
    # A port where nobody listens: a machine without the internet.
    "TICKWATCH_EXCHANGES__KRAKEN__BASE_URL": "http://127.0.0.1:9",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what is committed, in which nothing is installed."""
    require(ROOT.joinpath(".git").exists(), "the repository", "run the tests in a clone of it")
    folder = tmp_path / "tickwatch"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def test_make_run_shows_data_and_ctrl_c_ends_it(clone: Path) -> None:
    """`make run` installs what it needs and is up with data; the very commands it prints answer; Ctrl-C ends it."""
    process = subprocess.Popen(
        [str(require_program("make")), f"PYTHON={commands.PYTHON}", "run"],
        cwd=clone,
        env=commands.environment({**SETTINGS, "PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if "rank price" in line:
                break
        else:
            process.wait(timeout=120)
            if re.search(r"No matching distribution|connection|timed out", "".join(said)):
                lacking("a package index", "let pip reach one")
        printed = [line.strip() for line in said if line.startswith("  .venv/bin/tickwatch ")]
        assert len(printed) >= 3, said
        assert not (clone / ".venv" / ".installed").exists()  # nobody has waited for what only tests need
        for line in printed:
            done = subprocess.run(
                line.split(),
                cwd=clone,
                env=commands.environment({}),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, ""), line
            assert "SIM:BTCUSD" in done.stdout, line
    finally:
        # As a terminal does, to make and to what it runs.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=120)

    assert "stopping" in rest
    assert not re.search(r"Traceback|\*\*\*", rest), rest
    # make waits for what it runs, and then ends by the signal itself.
    assert process.returncode in (0, -signal.SIGINT)
