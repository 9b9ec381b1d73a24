"""The rig's exchange as a process, for tests of whatever talks to an exchange over HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.support.needs import require_rig

_TIMEOUT_SECONDS = 30.0


class RunningExchange:
    """A running rig/exchange: `url` is its address; the API of Kraken is below it at /0/public/."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post_fault(self, kind: str, *, count: int | None = None, path: str = "/") -> None:
        """Have the next `count` requests below `path` (None: all) answered with this fault; see rig/exchange.md."""
        self._control("POST", "/rig/faults", {"kind": kind, "count": count, "path": path})

    def clear_faults(self) -> None:
        """End all faults."""
        self._control("DELETE", "/rig/faults")

    def stats(self) -> dict[str, Any]:
        """Return `epoch`, and `requests` and `times` by path, and `faults` by kind, since the last clearing."""
        answer: dict[str, Any] = self._control("GET", "/rig/stats")
        return answer

    def clear_stats(self) -> None:
        """Count requests and faults from zero."""
        self._control("DELETE", "/rig/stats")

    def kraken(self, call: str, **query: object) -> dict[str, Any]:
        """Ask Kraken's public API directly and return `result`, past the code under test."""
        text = "&".join(f"{name}={value}" for name, value in query.items())
        answer: dict[str, Any] = self._control("GET", f"/0/public/{call}?{text}")["result"]
        return answer

    def _control(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310  loopback
            return json.loads(response.read())


@contextlib.contextmanager
def running_exchange(*args: str) -> Iterator[RunningExchange]:
    """Start rig/exchange on a free port with these arguments and stop it at the end; skips where there is no rig."""
    program = require_rig() / "exchange"
    command = [sys.executable, str(program), "--port", "0", *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, f"rig/exchange did not say where it listens: {command}"
        yield RunningExchange(found.group(0))
    finally:
        process.terminate()
        process.wait(timeout=_TIMEOUT_SECONDS)
        process.stdout.close()
