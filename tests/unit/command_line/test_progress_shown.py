"""A long job shows how far it is on standard error, which a pipe's reader never sees."""

from __future__ import annotations

import io
import sys

import pytest

from services.collector.progress import Progress
from services.command_line.printing import showing_progress

HALF = Progress(done=720, total=1440, unit="slots", rate=12.0, seconds_left=75.0, message="SIM:BTCUSD")


class Terminal(io.StringIO):
    """What says that it is a terminal, and remembers what was written to it."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_lines_are_plain_and_few(capsys: pytest.CaptureFixture[str]) -> None:
    """One line says share, rate, time left and what is being done; those that follow at once are left out."""
    with showing_progress("filling in") as show:
        for _ in range(100):
            show(HALF)

    out, err = capsys.readouterr()
    assert (out, err) == ("", "filling in: 50%, 12 slots/s, 1:15 left, SIM:BTCUSD\n")


def test_a_rate_that_is_not_known_tells_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """At first nothing can be foretold."""
    with showing_progress("loading") as show:
        show(Progress(0, 100, "bytes", 0.0, None, "a.csv"))

    assert capsys.readouterr().err == "loading: 0%, 0 bytes/s, a.csv\n"


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same words beside it."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with showing_progress("filling in") as show:
        show(HALF)

    shown = terminal.getvalue()
    assert "━" in shown
    assert all(words in shown for words in ("filling in", "50%", "12 slots/s, 1:15 left", "SIM:BTCUSD"))
