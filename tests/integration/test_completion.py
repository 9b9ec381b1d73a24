"""Completion in the shell: what is offered where, by bash itself, and by the protocol that zsh and fish speak."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.needs import require_program

ASK = """
eval "$(tickwatch completion bash)"
COMP_LINE={line} COMP_POINT=${{#COMP_LINE}} COMP_WORDBREAKS={breaks}
_tickwatch_completion tickwatch
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
SETTINGS = "catalog: catalog.yaml\n"
CATALOG = "markets: [{exchange: KRAKEN, pairs: [AAAUSD, BBBUSD]}]\n"


def environment(**variables: str) -> dict[str, str]:
    """The environment of a shell that has the command on PATH."""
    inherited = commands.environment(variables)
    return inherited | {"PATH": f"{Path(commands.PYTHON).parent}:{inherited['PATH']}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose settings name a catalog."""
    (tmp_path / "tickwatch.yaml").write_text(SETTINGS)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    return tmp_path


def bash(folder: Path, line: str, breaks: str) -> list[str]:
    """Return what bash offers after a line."""
    script = ASK.format(line=shlex.quote(line), breaks=shlex.quote(breaks))
    done = subprocess.run(
        [require_program("bash"), "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tickwatch ra", ["rank"]),
        ("tickwatch dead-letters re", ["resend"]),
        ("tickwatch rank vol", ["volume", "volume_1m"]),
        ("tickwatch rank price --statistic c", ["coefficient_of_variation"]),
        ("tickwatch rank price --wi", ["--window"]),
        ("tickwatch explain missing SIM:BT", ["BTCUSD"]),
        ("tickwatch history KRAKEN:BBB", ["BBBUSD"]),
    ],
)
def test_bash_completes(folder: Path, line: str, offered: list[str]) -> None:
    """Commands, options, words, and the catalog's metrics, of which bash has the part up to the colon already."""
    assert bash(folder, line, " :=") == offered


def test_bash_completes_whole_names_where_a_colon_ends_no_word(folder: Path) -> None:
    """As where somebody has taken it out of COMP_WORDBREAKS."""
    assert bash(folder, "tickwatch history SIM:B", " =") == ["SIM:BTCUSD"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete(folder: Path, shell: str) -> None:
    """Their script asks the command, which offers a metric with its exchange."""
    written = commands.tickwatch("completion", shell, settings={})
    asked = environment(
        _TICKWATCH_COMPLETE=f"{shell}_complete",
        COMP_WORDS="tickwatch history SIM:BTC",
        COMP_CWORD="SIM:BTC" if shell == "fish" else "2",
    )
    done = subprocess.run(
        [Path(commands.PYTHON).parent / "tickwatch"], cwd=folder, env=asked, capture_output=True, text=True, check=False
    )

    assert (written.returncode, f"_TICKWATCH_COMPLETE={shell}_complete" in written.stdout) == (0, True)
    assert "SIM" in done.stdout.replace("\\:", ":")
    assert "BTCUSD" in done.stdout
    assert "ETHUSD" not in done.stdout
