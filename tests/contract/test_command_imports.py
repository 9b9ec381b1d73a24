"""What a command does not need it does not import: each answers at once, and a run each minute costs what it must.

No time is measured here; benchmarks/starting.py does that.
"""

from __future__ import annotations

import subprocess

import pytest

from services.core.catalog.rules_file import DEFAULT_RULES_FILE
from tests.support import commands

SERVERS = {
    "fastapi",
    "uvicorn",
    "starlette",
    "influxdb_client",
    "kubernetes",
    "prometheus_client",
    "textual",
    "sqlite3",
}
HEAVY = SERVERS | {
    "grpc",
    "google.protobuf",
    "httpx",
    "numpy",
    "orjson",
    "pydantic",
    "rich",
    "yaml",
    "asyncio",
}

HELP = """
import sys, click
from click.testing import CliRunner
from services.cli import cli
heavy, runner, told = set(sys.argv[1:]), CliRunner(), 0
def tell(command, words):
    global told
    before = heavy & sys.modules.keys()
    done = runner.invoke(cli, [*words, "--help"])
    assert done.exit_code == 0, done.output
    told += 1
    print(told, " ".join(words), *(heavy & sys.modules.keys()), sep="|")
    for name, inner in getattr(command, "commands", {}).items():
        tell(inner, [*words, name])
tell(cli, [])
"""


def test_help_imports_nothing_heavy() -> None:
    """No command's help needs a library but click."""
    done = subprocess.run(
        [commands.PYTHON, "-c", HELP, *HEAVY], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert len(lines) > 20
    assert {name: imported for _, name, *imported in lines if imported} == {}


@pytest.mark.parametrize(
    ("words", "code", "needed"),
    [
        (["--version"], 0, set()),
        (["lst"], 2, set()),
        (["history", "SIM:BTCUSD", "price", "--since", "1x"], 2, set()),
        (["history", "SIM:BTCUSD", "prize"], 2, {"yaml"}),
        (["rules", "default"], 0, {"yaml"}),
        (["rules", "check", str(DEFAULT_RULES_FILE)], 0, {"yaml"}),
        (["rules", "check", "none.yaml"], 2, {"yaml"}),
        (["list", "--server", "127.0.0.1:9"], 1, {"asyncio", "google.protobuf", "grpc"}),
        (["breaches", "--alerts", "127.0.0.1:9"], 1, {"asyncio", "google.protobuf", "grpc"}),
        (["rules", "list", "--alerts", "127.0.0.1:9"], 1, {"asyncio", "google.protobuf", "grpc"}),
    ],
)
def test_a_command_imports_what_it_needs(words: list[str], code: int, needed: set[str]) -> None:
    """An answer from files needs no gRPC, a question to a service no numpy, and a mistake nothing."""
    done_code, imported = commands.imported_by(*words)

    assert done_code == code
    assert imported & HEAVY <= needed
