"""What the README tells a newcomer to type is typed here, against everything in one process on recorded market data."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import commands
from tests.support.exchanges import running_exchange
from tests.support.needs import ROOT, require_program

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:50051"
"""Where `tickwatch up` listens, as the README has it; the test's own listens elsewhere."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[commands.Service]:
    """Everything in one process, on what the rig serves as Kraken."""
    store = f"sqlite:{tmp_path_factory.mktemp('readme')}/tickwatch.db"
    with running_exchange() as exchange:
        settings = {
            "TICKWATCH_EXCHANGES__KRAKEN__BASE_URL": exchange.url,
            "TICKWATCH_EXCHANGES__KRAKEN__CALLS_PER_SECOND": "1000",
        }
        arguments = ("--store", store, "up", "--listen", "127.0.0.1:0")
        with commands.running(*arguments, announces=r"gRPC +(\S+)", settings=settings) as running:
            yield running


def lines(program: str) -> list[str]:
    """The README's command lines of one program, each joined where it is broken by a backslash."""
    joined = README.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if re.match(rf" {{4}}{re.escape(program)} ", line)]


def test_grpcurl_asks_by_reflection(service: commands.Service) -> None:
    """Each grpcurl line is answered: the services by name, a ranking of all three metrics, a day of 1440 values."""
    grpcurl = str(require_program("grpcurl"))
    answers = {}
    for line in lines("grpcurl"):
        _, *words = shlex.split(line.replace(ADDRESS, service.address))
        done = subprocess.run([grpcurl, *words], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line
        answers[words[-1]] = done.stdout

    assert "tickwatch.v1.QueryService" in answers["list"].splitlines()
    ranked = json.loads(answers["tickwatch.v1.QueryService/RankMetrics"])
    assert [ranking["rank"] for ranking in ranked["rankings"]] == [1, 2, 3]
    assert len(json.loads(answers["tickwatch.v1.QueryService/GetHistory"])["values"]) == 1440


def test_the_commands_to_try_answer(service: commands.Service) -> None:
    """Each `tickwatch` line that asks is answered, about a metric of the real exchange."""
    asked = [line for line in lines(".venv/bin/tickwatch") if line.split()[1] in ("list", "history", "rank")]
    for line in asked:
        done = commands.tickwatch(*shlex.split(line)[1:], "--server", service.address, settings={})
        assert (done.returncode, done.stderr) == (0, ""), line
        assert "KRAKEN:BTCUSD" in done.stdout, line

    assert len(asked) >= 3


def test_the_program_runs(service: commands.Service) -> None:
    """The Python example prints a day of 1440 values and how much of it is known, and goes on watching."""
    (program,) = re.findall(r"```python\n(import asyncio\nimport tickwatch\n.*?)```", README, re.DOTALL)
    process = subprocess.Popen(
        [commands.PYTHON, "-u", "-c", program.replace(ADDRESS, service.address)],
        env=commands.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert process.poll() is None
    finally:
        process.kill()
        _, complaints = process.communicate(timeout=60)

    count, coverage = first.split()
    assert (count, complaints) == ("1440", "")
    assert 0.4 < float(coverage) <= 1
