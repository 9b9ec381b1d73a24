"""`tickwatch watch` as a process, and everything it has printed so far."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from tests.support.commands import PYTHON, environment


class Watch:
    """A subscriber: what it got, message by message."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.messages: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, name="test-watch", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.messages.append(json.loads(line))

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events so far, in the order in which they came."""
        return [message["event"] for message in self.messages if "event" in message]

    def of(self, rule: str, kind: str = "") -> list[dict[str, Any]]:
        """The events of a rule, or those of a kind."""
        return [event for event in self.events if event["rule"] == rule and kind in ("", event["kind"])]

    def close(self) -> None:
        """End it, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)
        self._reader.join(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def watching(address: str, *words: str) -> Iterator[Watch]:
    """Watch an alert service until the context ends."""
    process = subprocess.Popen(
        [PYTHON, "-u", "-m", "services.cli", "watch", "--output", "json", "--alerts", address, *words],
        env=environment({}),
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process)
    try:
        yield watch
    finally:
        watch.close()
