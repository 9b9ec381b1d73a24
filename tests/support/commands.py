"""The `tickwatch` command as a process, the way people and clusters run it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

PYTHON = sys.executable
_TIMEOUT_SECONDS = 120.0

T = TypeVar("T")


def minute(offset: int = 0) -> datetime:
    """The minute in progress, or one so many minutes from it."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return now + timedelta(minutes=offset)


def until(ask: Callable[[], T], satisfied: Callable[[T], bool]) -> T:
    """Ask until the answer satisfies, for a deadline that only a hang reaches; return that answer."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not satisfied(answer := ask()):
        assert time.monotonic() < deadline, f"still not so: {answer!r:.200}"
    return answer


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The process's environment without anybody's settings of Tickwatch, and with these; the gateway's port is free."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TICKWATCH_", "INFLUXDB_V2_")) and name != "CI"
    }
    return inherited | {"TICKWATCH_GATEWAY__LISTEN": "127.0.0.1:0"} | dict(settings)


def tickwatch(*arguments: str, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one command to its end and return what it printed, whatever its exit code."""
    return subprocess.run(
        [PYTHON, "-m", "services.cli", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )


def imported_by(*arguments: str) -> tuple[int, set[str]]:
    """Run one command to its end; return its exit code and the modules that it imported, by their full names."""
    done = subprocess.run(
        [PYTHON, "-X", "importtime", "-m", "services.cli", *arguments],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    lines = re.findall(r"^import time: .*\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "services.command_line.rules" in lines, done.stderr
    return done.returncode, set(lines)


class Service:
    """A command that stays up."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=_TIMEOUT_SECONDS)


@contextlib.contextmanager
def running(*arguments: str, announces: str, settings: Mapping[str, str]) -> Iterator[Service]:
    """Start a command and wait for the line that announces its address (the pattern's first group).

    It is stopped at the end, and its standard output and error are read as one stream until then.
    """
    process = subprocess.Popen(
        [PYTHON, "-u", "-m", "services.cli", *arguments],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    heard: list[str] = []
    try:
        for line in process.stdout:
            heard.append(line)
            if found := re.search(announces, line):
                yield Service(process, found[1])
                break
        else:
            raise AssertionError(f"{arguments} ended before it was up:\n{''.join(heard)}")
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=_TIMEOUT_SECONDS)
