"""Processes of servers: started with a log, watched through /proc, stopped by the benchmark that started them.

It knows Linux's /proc (proc(5)) and no particular server.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 20.0


class ServerError(Exception):
    """A server did not come up, or ended by itself."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A running server and the processes it started."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log

    @property
    def pids(self) -> list[int]:
        """The process and all its descendants that still run."""
        found = [self._popen.pid]
        for pid in found:
            for listing in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in listing.read_text().split()]
        return found

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system, of all its processes; resolution 10 ms."""
        # Fields 14 and 15 of stat, counted from 1; the second field may hold spaces, so counting starts behind it.
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        return sum(int(each[11]) + int(each[12]) for each in fields) / _TICKS

    def rss_bytes(self) -> int:
        """Resident memory of all its processes; what they share counts for each."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids) * _PAGE_BYTES

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 60.0, interval: float = 0.02) -> None:
        """Poll until it is ready; raise ServerError with the end of its log if it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._popen.poll() is not None:
                raise ServerError(f"{self._popen.args!r} ended with {self._popen.returncode}: {self._tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self._popen.args!r} is not ready after {seconds} s: {self._tail()}")
            time.sleep(interval)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


@contextmanager
def running(
    command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a server until the block ends; output goes to the file `log`, the environment is ours and `environment`."""
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Process(popen, log)
    finally:
        popen.terminate()
        try:
            popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
