"""One question asked of one server by one kind of client, and how long the answers take.

It knows how to ask and to account, not what is asked; the questions are in `benchmarks.questions`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.load import Load, LoadError, run_h2load, run_wrk
from benchmarks.processes import Process
from benchmarks.statistics import Spread, percentile

_CALIBRATION_CALLS = 40
_FRAME_BYTES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: seconds, calls per second, processor seconds of the server per call."""

    p50: float
    calls_per_second: float
    cpu_per_call: float


class Peer(ABC):
    """A way to ask one server one question."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self._process = process

    @abstractmethod
    def load(self, clients: int, seconds: float) -> Load:
        """Ask from so many clients for about so many seconds; raises LoadError if an answer is wrong."""

    def measure(self, clients: int, seconds: float) -> Sample:
        """Ask, and read the server's processor time before and after."""
        before = self._process.cpu_seconds()
        load = self.load(clients, seconds)
        used = self._process.cpu_seconds() - before
        return Sample(load.p50, load.calls_per_second, used / load.calls)


class GrpcPeer(Peer):
    """A unary gRPC method called by h2load."""

    def __init__(self, name: str, process: Process, url: str, request: bytes, answer_bytes: int) -> None:
        super().__init__(name, process)
        self._url = url
        self._request = request
        self._answer_bytes = answer_bytes + _FRAME_BYTES
        self._rates: dict[int, float] = {}

    def load(self, clients: int, seconds: float) -> Load:
        rate = self._rates.get(clients) or self._called(clients, _CALIBRATION_CALLS * clients).calls_per_second
        load = self._called(clients, max(_CALIBRATION_CALLS, round(rate * seconds)))
        self._rates[clients] = load.calls_per_second
        return load

    def _called(self, clients: int, calls: int) -> Load:
        load = run_h2load(self._url, self._request, clients=clients, calls=calls)
        # Answers grow by a few bytes as the day moves on and its newest minutes are missing; errors have no body.
        size = (load.body_bytes or 0) / load.calls
        if abs(size - self._answer_bytes) > max(64, 0.02 * self._answer_bytes):
            raise LoadError(f"{self.name}: answers of {size:.0f} bytes instead of {self._answer_bytes}")
        return load


class HttpPeer(Peer):
    """A URL asked by wrk; `script` is wrk's Lua for what is not a GET."""

    def __init__(self, name: str, process: Process, url: str, script: str | None = None) -> None:
        super().__init__(name, process)
        self._url = url
        self._script = script

    def load(self, clients: int, seconds: float) -> Load:
        return run_wrk(self._url, clients=clients, seconds=seconds, script=self._script)


class PythonPeer(Peer):
    """A function that asks from this very process, where a Python client is what is compared; one client only."""

    def __init__(self, name: str, process: Process, ask: Callable[[], object]) -> None:
        super().__init__(name, process)
        self._ask = ask

    def load(self, clients: int, seconds: float) -> Load:
        if clients != 1:
            raise LoadError(f"{self.name} is measured from one client only")
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            self._ask()
            times.append(time.perf_counter() - before)
        return Load(len(times), sum(times), percentile(times, 0.5))


@dataclass(slots=True)
class Column:
    """What one peer did, round by round."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def p50(self) -> list[float]:
        """Seconds."""
        return [sample.p50 for sample in self.samples]

    @property
    def calls_per_second(self) -> list[float]:
        """Of all clients together."""
        return [sample.calls_per_second for sample in self.samples]

    @property
    def cpu_per_call(self) -> list[float]:
        """Seconds of the server's processes."""
        return [sample.cpu_per_call for sample in self.samples]

    @property
    def cores(self) -> Spread:
        """How many cores the server kept busy."""
        return Spread.of(sample.cpu_per_call * sample.calls_per_second for sample in self.samples)


def interleave(peers: Sequence[Peer], *, clients: int, seconds: float, rounds: int) -> dict[str, Column]:
    """Measure A B C, A B C, ... after one short warm-up of each, so that drift of the machine hits all alike."""
    columns = {peer.name: Column(peer.name) for peer in peers}
    for peer in peers:
        peer.load(clients, min(0.3, seconds))
    for _ in range(rounds):
        for peer in peers:
            columns[peer.name].samples.append(peer.measure(clients, seconds))
    return columns
