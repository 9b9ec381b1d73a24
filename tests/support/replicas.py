"""Several alerters on one store, each a process, with what a test has to know of them and do to them."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.core.model import SLOT_SECONDS, Measure, Points, Quality, Series, Slot
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.support import cluster, commands, ports

_PATIENCE_SECONDS = 120


class Replica:
    """`tickwatch alerter` as a process; its log goes to a file."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.metrics_port = ports.free_port()
        self._log = folder / f"{name}.log"
        given = {
            "TICKWATCH_METRICS__LISTEN": f"127.0.0.1:{self.metrics_port}",
            "TICKWATCH_LOG__FORMAT": "console",
            **settings,
        }
        with self._log.open("w") as output:
            self.process = subprocess.Popen(
                [commands.PYTHON, "-u", "-m", "services.cli", "alerter", "--listen", "127.0.0.1:0"],
                env=commands.environment(given),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        found = commands.until(self._listening, lambda found: found is not None or self.process.poll() is not None)
        assert found, f"{name} ended before it was up:\n{self.log}"
        self.address = found[1]

    def _listening(self) -> re.Match[str] | None:
        time.sleep(0.05)
        return re.search(r"listening on (\S+)", self.log)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    @property
    def identity(self) -> str:
        """By which it stands for leadership; known once it has led."""
        return str(re.findall(r"this replica, (\S+), leads", self.log)[-1])

    def leads(self) -> bool:
        """Whether it says that it leads."""
        return self.metrics().get("tickwatch_leader") == 1

    def metrics(self) -> dict[str, float]:
        """Its metrics, by name and labels; none if it does not answer."""
        with contextlib.suppress(OSError):
            answer = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5)
            with answer:
                lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
        return {}

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def close(self) -> int:
        """End it; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        return self.process.wait(_PATIENCE_SECONDS)


@contextlib.contextmanager
def starting(folder: Path, settings: Mapping[str, str]) -> Iterator[Callable[..., Replica]]:
    """Yield what starts a replica by name, with these settings and its own; all of them end with the context."""
    with contextlib.ExitStack() as stack:

        def start(name: str, **more: str) -> Replica:
            replica = Replica(name, folder, {**settings, **more})
            stack.callback(replica.close)
            return replica

        yield start


def shared_store(settings: Mapping[str, str]) -> MetricStore:
    """Open the store that replicas with these settings share."""
    return open_store(settings["TICKWATCH_STORE"], token=settings.get("TICKWATCH_INFLUXDB__TOKEN"))


def wait_for_leader(*replicas: Replica) -> Replica:
    """Wait until one of them leads and return that one; two at once fail the test."""

    def leading() -> list[Replica]:
        time.sleep(0.1)
        return [replica for replica in replicas if replica.leads()]

    (leader,) = commands.until(leading, bool)
    return leader


class Breaches:
    """Writes a point that breaks the rule of `RULES`, each for a series of its own in the slot in progress."""

    def __init__(self, store: MetricStore) -> None:
        self._store = store
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.written: dict[str, float] = {}
        """When each metric's point had been written, by the clock of `time.monotonic`."""

    def write(self) -> str:
        """Write one; return its metric."""
        metric = f"SIM:M{len(self.written):05}"
        slot = Slot(int(time.time()) // SLOT_SECONDS)
        self._store.write(Points.of([(Series(metric, Measure.PRICE), slot, 200.0, Quality.OBSERVED)]))
        self.written[metric] = time.monotonic()
        return metric

    @contextlib.contextmanager
    def writing(self, interval_seconds: float = 0.25) -> Iterator[None]:
        """Write one after the other, as long as the context lasts."""

        def write() -> None:
            while not self._stop.wait(interval_seconds):
                self.write()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


RULES: dict[str, Any] = {
    "rules": [{"name": "above-100", "threshold": {"above": 100}, "selector": {"metrics": ["SIM:M*"]}}]
}


def write_rules(folder: Path) -> Path:
    """Write `RULES` as a file and return its path."""
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    return path


class Gate:
    """A way to the API server that a test can shut: then whoever goes through it hears nothing any more."""

    def __init__(self, folder: Path, through: str | None = None) -> None:
        """Listen, and write `kubeconfig`, which leads through here to where `through`, or KUBECONFIG, does."""
        document = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        server = urlsplit(document["clusters"][0]["cluster"]["server"])
        self._target = (server.hostname, server.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0))
        here = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        token = yaml.safe_load(Path(through).read_text())["users"][0]["user"]["token"] if through else None
        self.kubeconfig = cluster.write_kubeconfig(folder / "kubeconfig", token=token, server=here)
        self._state = "open"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def shut(self) -> None:
        """From now on nothing passes in either direction; connections stay."""
        self._state = "shut"

    def cut(self) -> None:
        """End all connections, and every new one at once."""
        self._state = "cut"

    def reopen(self) -> None:
        """Let everything pass again."""
        self._state = "open"

    def close(self) -> None:
        """End it."""
        self._state = "closed"
        self._thread.join()

    def _serve(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        with self._listener:
            while self._state != "closed":
                if self._state == "shut":
                    time.sleep(0.05)
                    continue
                if self._state == "cut":
                    _end(pairs)
                ready, _, _ = select.select([self._listener, *pairs], [], [], 0.05)
                for each in ready:
                    if each is self._listener:
                        inner, _ = self._listener.accept()
                        outer = socket.create_connection(self._target)
                        pairs |= {inner: outer, outer: inner}
                    elif each in pairs:
                        self._pass_on(each, pairs)
            _end(pairs)

    @staticmethod
    def _pass_on(source: socket.socket, pairs: dict[socket.socket, socket.socket]) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(65_536)
        target = pairs[source]
        if data:
            with contextlib.suppress(OSError):
                target.sendall(data)
                return
        for each in (source, target):
            pairs.pop(each, None)
            each.close()


def _end(pairs: dict[socket.socket, socket.socket]) -> None:
    for each in pairs:
        each.close()
    pairs.clear()
