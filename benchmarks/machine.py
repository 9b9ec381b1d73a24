"""Which machine and which versions a page of figures is of."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.servers import MissingPeerError, program


def versions() -> list[tuple[str, str]]:
    """Return what the figures depend on, as pairs of name and version."""
    packages = [(name, metadata.version(name)) for name in ("grpcio", "protobuf", "numpy", "influxdb-client", "httpx")]
    programs = [
        ("influxd", _program("influxd", "version")),
        ("VictoriaMetrics", _program("victoria-metrics", "--version")),
        ("h2load", _program("h2load", "--version")),
        ("wrk", _program("wrk", "--version")),
    ]
    load = f"{os.getloadavg()[0]:.1f} when the page was written"
    return [
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        ("kernel", platform.release()),
        ("load average", load),
        ("Python", platform.python_version()),
        *packages,
        *programs,
    ]


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1] if found else platform.machine()


def _program(name: str, option: str) -> str:
    try:
        path = program(name, "")
    except MissingPeerError:
        return "absent"
    done = subprocess.run([path, option], capture_output=True, text=True, check=False)
    found = re.search(r"v?\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"
