"""`tickwatch query` in several processes on one port: they share the calls, and live and die together."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tickwatch.v1 import query_pb2 as wire
from tickwatch.v1 import query_pb2_grpc

from services.core.clock import SystemClock
from services.core.model import Measure, Slot, last_complete_slot
from services.core.store.opening import open_store
from tests.support.commands import Service, running, tickwatch, until
from tests.support.ports import free_port
from tests.support.query import make_market, record_run


@contextmanager
def two_processes(folder: Path) -> Iterator[tuple[Service, list[int]]]:
    """Serve a small market from two processes; yields the command and the ports of the processes' metrics."""
    url = f"sqlite:{folder / 'tickwatch.db'}"
    with open_store(url) as store:
        end = Slot(last_complete_slot(SystemClock().now()) + 1)
        store.write(make_market(["SIM:AAA", "SIM:BBB"], end=end, slots=60, measures=[Measure.PRICE]).points())
        record_run(store, Slot(end - 1))
    first = free_port(together=2)
    settings = {
        "TICKWATCH_STORE": url,
        "TICKWATCH_QUERY__PROCESSES": "2",
        "TICKWATCH_QUERY__LISTEN": f"127.0.0.1:{free_port()}",
        "TICKWATCH_METRICS__LISTEN": f"127.0.0.1:{first}",
    }
    with running("query", announces=r"tickwatch query: listening on (\S+)", settings=settings) as service:
        until(lambda: [served(port) for port in (first, first + 1)], lambda counts: None not in counts)
        yield service, [first, first + 1]


def served(port: int) -> int | None:
    """Return how many ListMetrics calls the process with these metrics has answered, None before it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    if not re.search(r"^tickwatch_window_series 2\.0$", text, re.MULTILINE):
        return None
    found = re.search(
        r'^grpc_server_handled_total\{grpc_code="OK".*grpc_method="ListMetrics".*\} (\S+)$', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


def list_once(address: str) -> list[str]:
    """List the metrics over a connection of its own."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        response = query_pb2_grpc.QueryServiceStub(channel).ListMetrics(wire.ListMetricsRequest(), timeout=30)
        return [metric.name for metric in response.metrics]


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that serve, by their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if parent == pid and "spawn_main" in command:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_both_processes_answer_and_drain(tmp_path: Path) -> None:
    """The kernel deals connections to both, both say the same, and SIGTERM ends both with exit code 0."""
    with two_processes(tmp_path) as (service, ports):

        def ask() -> list[int | None]:
            assert list_once(service.address) == ["SIM:AAA", "SIM:BBB"]
            return [served(port) for port in ports]

        until(ask, all)
        others = children(service.process.pid)
        assert len(others) == 1
        assert service.stop() == 0
        assert not any(map(alive, others))


def test_they_end_together(tmp_path: Path) -> None:
    """A killed process takes the command with it, exit code 1, so that whoever started it starts it anew."""
    with two_processes(tmp_path) as (service, _):
        os.kill(children(service.process.pid)[0], signal.SIGKILL)
        assert service.process.wait(timeout=60) == 1


def test_nobody_is_orphaned(tmp_path: Path) -> None:
    """When the first process is killed, the others end by themselves."""
    with two_processes(tmp_path) as (service, _):
        others = children(service.process.pid)
        service.process.kill()
        until(lambda: [pid for pid in others if alive(pid)], lambda left: not left)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            {"TICKWATCH_QUERY__PROCESSES": "2", "TICKWATCH_QUERY__LISTEN": "127.0.0.1:0"},
            "Error: query.listen: 127.0.0.1:0 leaves the port to the machine (a port that all 2 processes can share)",
        ),
        (
            {"TICKWATCH_QUERY__PROCESSES": "0"},
            "Error: TICKWATCH_QUERY__PROCESSES: query.processes: input should be greater than or equal to 1",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(settings: dict[str, str], error: str, tmp_path: Path) -> None:
    """A wrong number or a port that nobody knows ends the command at once."""
    done = tickwatch("query", settings={"TICKWATCH_STORE": f"sqlite:{tmp_path / 't.db'}", **settings})
    assert (done.returncode, done.stderr.strip()) == (2, error)
