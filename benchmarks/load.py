"""Load from programs written in C, so that a Python client is not what is measured.

`h2load` speaks gRPC by posting a prepared message; it does not read grpc-status, so a call counts as answered only if
as many bytes came back as the right answer has. `wrk` speaks HTTP/1.1. Both report what they saw as text, which is
parsed here; both are started once per measurement and need no server of ours to be imported.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.statistics import percentile

_LONGEST_SECONDS = 60
_WRK_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """A load generator's calls failed, or it said something that is not understood."""


class NoAnswerError(LoadError):
    """Nothing was answered for as long as it was asked."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw: times in seconds, bytes of bodies in all."""

    calls: int
    seconds: float
    p50: float
    body_bytes: int | None = None
    """None where the generator counts headers among the bytes."""

    @property
    def calls_per_second(self) -> float:
        """Throughput of all clients together."""
        return self.calls / self.seconds


def grpc_frame(message: bytes) -> bytes:
    """Return the message as gRPC sends it: uncompressed flag, length as big-endian 32 bits, message."""
    return struct.pack(">BI", 0, len(message)) + message


def run_h2load(url: str, request: bytes, *, clients: int, calls: int) -> Load:
    """Make gRPC calls from so many connections, one call at a time on each; `request` is the serialised message.

    Raises LoadError unless every call ended with HTTP 200.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(grpc_frame(request))
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        sizes = ["-n", str(max(calls, clients)), "-c", str(clients), "-t", "1", "-m", "1"]
        text = _run(["h2load", *sizes, *headers, "-d", str(body), f"--log-file={log}", url])
        return parse_h2load(text, log.read_text())


def parse_h2load(text: str, log: str) -> Load:
    """Read h2load's report and its log (a line a call: start, status, microseconds taken)."""
    finished = _find(r"finished in ([\d.]+)(us|ms|s|m),", text)
    counts = _find(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    data = _find(r"traffic: .*\((\d+)\) data", text)
    total, succeeded = int(counts[1]), int(counts[2])
    if succeeded != total:
        raise LoadError(f"{total - succeeded} of {total} calls failed: {counts[0]}")
    times = [int(line.split()[2]) / 1e6 for line in log.splitlines()]
    if len(times) != total:
        raise LoadError(f"h2load made {total} calls and logged {len(times)}")
    return Load(total, float(finished[1]) * _WRK_UNITS[finished[2]], percentile(times, 0.5), int(data[1]))


def run_wrk(url: str, *, clients: int, seconds: float, script: str | None = None) -> Load:
    """Ask over HTTP from so many connections for whole seconds; `script` is wrk's Lua, as for a POST.

    Where nothing is answered in that time it asks for longer. Raises LoadError if any call failed or was not answered
    by HTTP 2xx, or if no answer comes within a minute.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["-t1", f"-c{clients}", "--latency", "--timeout", "60s"]
        if script is not None:
            path = Path(folder, "script.lua")
            path.write_text(script)
            options += ["-s", str(path)]
        whole = max(1, round(seconds))
        while True:
            try:
                return parse_wrk(_run(["wrk", *options, f"-d{whole}s", url]))
            except NoAnswerError:
                if whole > _LONGEST_SECONDS:
                    raise
                whole *= 4


def parse_wrk(text: str) -> Load:
    """Read wrk's report with --latency."""
    for failure in ("Socket errors", "Non-2xx or 3xx responses"):
        if failure in text:
            raise LoadError(_find(rf"{failure}: .*", text)[0])
    total = _find(r"(\d+) requests in ([\d.]+)(us|ms|s|m), ", text)
    median = _find(r"\b50%\s+([\d.]+)(us|ms|s|m)\b", text)
    if not int(total[1]):
        raise NoAnswerError("wrk had no answer at all")
    seconds = float(total[2]) * _WRK_UNITS[total[3]]
    return Load(int(total[1]), seconds, float(median[1]) * _WRK_UNITS[median[2]])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"{command[0]} exited with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _find(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text)
    if not found:
        raise LoadError(f"no {pattern!r} in: {text.strip()!r}")
    return found
