"""Completion in the shell: what is offered where, by bash, zsh and fish themselves, and by the protocol
that the latter two speak where they are not installed.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import shutil
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
def test_their_protocol_completes(folder: Path, shell: str) -> None:
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


LINES = [
    ("tickwatch ra", "tickwatch rank"),
    ("tickwatch dead-letters re", "tickwatch dead-letters resend"),
    ("tickwatch rank price --statistic c", "tickwatch rank price --statistic coefficient_of_variation"),
    ("tickwatch rank price --wi", "tickwatch rank price --window"),
    ("tickwatch explain missing SIM:BT", "tickwatch explain missing SIM:BTCUSD"),
    ("tickwatch history KRAKEN:BBB", "tickwatch history KRAKEN:BBBUSD"),
]


def installed(shell: str) -> str:
    """Return where a shell is; skip where it is not, in CI too: people have it or they have not."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"needs {shell} on PATH")
    return found


@pytest.mark.parametrize(("line", "completed"), LINES)
def test_fish_completes(folder: Path, line: str, completed: str) -> None:
    """What fish itself offers for the last word, when asked."""
    script = f"tickwatch completion fish | source; complete --do-complete {shlex.quote(line)}"
    done = subprocess.run(
        [installed("fish"), "--no-config", "-c", script],
        cwd=folder,
        env=environment(HOME=str(folder), XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    offered = [each.partition("\t")[0] for each in done.stdout.splitlines()]
    assert (done.returncode, done.stderr, offered) == (0, "", [completed.rpartition(" ")[2]])


def test_zsh_completes(folder: Path) -> None:
    """At a terminal, Tab of zsh itself makes these lines of those."""
    (folder / ".zshrc").write_text(ZSHRC)
    process, terminal = at_a_terminal(folder, [installed("zsh"), "-i"])
    try:
        for line, completed in LINES:
            os.write(terminal, f"{line}\t\x18".encode())
            commands.until(lambda: shown(terminal, folder), lambda lines, done=completed: done in lines)
    finally:
        process.kill()
        process.wait(timeout=60)
        os.close(terminal)


# Ctrl-X writes the line as it stands down, and empties it.
ZSHRC = """
autoload -Uz compinit && compinit -u -D
eval "$(tickwatch completion zsh)"
tell() { print -r -- "${BUFFER% }" >> lines; BUFFER= }
zle -N tell
bindkey -e
bindkey '^I' complete-word
bindkey '^X' tell
"""


def at_a_terminal(folder: Path, command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start an interactive shell; return it, and its terminal to type into."""
    terminal, other = pty.openpty()
    variables = environment(HOME=str(folder), ZDOTDIR=str(folder), TERM="dumb")
    process = subprocess.Popen(
        command, cwd=folder, env=variables, stdin=other, stdout=other, stderr=other, start_new_session=True
    )
    os.close(other)
    os.set_blocking(terminal, False)
    return process, terminal


def shown(terminal: int, folder: Path) -> list[str]:
    """Return the lines that were written down, having read what the shell has painted, so that it can paint on."""
    with contextlib.suppress(BlockingIOError):
        while os.read(terminal, 65_536):
            pass
    lines = folder / "lines"
    return lines.read_text().splitlines() if lines.exists() else []
