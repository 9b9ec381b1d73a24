"""An influxd of a test's own, which may be stopped and started again without losing what it holds."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from tests.support.needs import InfluxDB, require_program
from tests.support.ports import free_port

_DEADLINE_SECONDS = 60.0


class Influxd:
    """A server on a fixed free port with its data in a folder."""

    def __init__(self, program: pathlib.Path, folder: pathlib.Path) -> None:
        port = free_port()
        self.access = InfluxDB(f"http://127.0.0.1:{port}", "org", "secret-token", "bucket")
        self._command = [
            str(program),
            *("--bolt-path", str(folder / "bolt"), "--sqlite-path", str(folder / "sqlite")),
            *("--engine-path", str(folder / "engine"), "--http-bind-address", f"127.0.0.1:{port}"),
            "--reporting-disabled",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while True:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(  # noqa: S310  loopback
                    f"{self.access.url}/health", timeout=1
                ),
            ):
                return
            assert time.monotonic() < deadline, "influxd did not come up"
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it, as a machine that fails would, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def set_up(self) -> None:
        """Make the organisation, the bucket and the token."""
        body = {"username": "u", "password": "password", "org": "org", "bucket": "bucket", "token": "secret-token"}
        request = urllib.request.Request(f"{self.access.url}/api/v2/setup", json.dumps(body).encode())  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=_DEADLINE_SECONDS):  # noqa: S310  loopback
            pass


@contextlib.contextmanager
def running_influxd(folder: pathlib.Path) -> Iterator[Influxd]:
    """Start one with an organisation, a bucket and a token; skips where the program is not installed."""
    server = Influxd(require_program("influxd"), folder)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.stop()
