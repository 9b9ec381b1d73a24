"""The servers that are compared, each in processes of its own on a free loopback port, in a folder that is deleted.

Programs are found in PATH or in $RIG_HOME/bin (default ~/.cache/rig/bin); what is not there is a `MissingPeerError`,
and the benchmark goes on without that peer.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.floor import SERVICE
from benchmarks.processes import Process, free_port, running

ORG = "bench"
TOKEN = "bench-token"  # of a server that lives for minutes on loopback
_BODY_BYTES = 2_000_000


class MissingPeerError(Exception):
    """A peer's program is not on this machine; the text says what would put it there."""


def program(name: str, remedy: str) -> Path:
    """Find a program, or raise MissingPeerError."""
    rig_home = Path(os.environ.get("RIG_HOME", Path.home() / ".cache" / "rig"))
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{rig_home / 'bin'}")
    if not found:
        raise MissingPeerError(f"{name} is neither in PATH nor in $RIG_HOME/bin: {remedy}")
    return Path(found)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="tickwatch-bench-") as folder:
        yield Path(folder)


def fetch(url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str = "") -> bytes:
    """Make one HTTP request and return the answer's body; raises urllib.error.HTTPError with the server's words."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method or None)
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        error.msg = f"{error.msg}: {error.read(500).decode(errors='replace')}"
        raise


def answers(url: str) -> bool:
    """Whether something answers HTTP 2xx there."""
    try:
        fetch(url)
    except OSError:
        return False
    return True


def bodies(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut line protocol into bodies of about 2 MB, each of whole lines."""
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            end = (
                len(chunk) if start + _BODY_BYTES >= len(chunk) else chunk.rindex(b"\n", start, start + _BODY_BYTES) + 1
            )
            yield chunk[start:end]
            start = end


@dataclass(frozen=True, slots=True)
class Influx:
    """A running influxd with our organisation and token; buckets come and go."""

    process: Process
    url: str

    @property
    def headers(self) -> dict[str, str]:
        """What a request to its API carries."""
        return {"Authorization": f"Token {TOKEN}"}

    @contextmanager
    def bucket(self, name: str) -> Iterator[str]:
        """Make a bucket, and delete it afterwards."""
        org = json.loads(fetch(f"{self.url}/api/v2/orgs?org={ORG}", headers=self.headers))["orgs"][0]["id"]
        body = json.dumps({"name": name, "orgID": org, "retentionRules": []}).encode()
        made = json.loads(fetch(f"{self.url}/api/v2/buckets", body=body, headers=self.headers))
        try:
            yield name
        finally:
            fetch(f"{self.url}/api/v2/buckets/{made['id']}", headers=self.headers, method="DELETE")

    def store_url(self, bucket: str) -> str:
        """Return the URL by which our store finds this bucket."""
        return f"influxdb+{self.url}/{ORG}/{bucket}"

    def write(self, bucket: str, body: bytes) -> None:
        """Post line protocol with times in seconds."""
        fetch(f"{self.url}/api/v2/write?org={ORG}&bucket={bucket}&precision=s", body=body, headers=self.headers)


@contextmanager
def influxd() -> Iterator[Influx]:
    """Run InfluxDB 2."""
    binary = program("influxd", "install InfluxDB 2.7")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with scratch() as folder:
        options = [f"--bolt-path={folder}/bolt", f"--sqlite-path={folder}/sqlite", f"--engine-path={folder}/engine"]
        options += [f"--http-bind-address=127.0.0.1:{port}", "--reporting-disabled", "--log-level=error"]
        with running([binary, *options], log=folder / "log") as process:
            process.wait_until(lambda: answers(f"{url}/health"))
            setup = {"username": "bench", "password": "bench-password", "org": ORG, "bucket": "unused", "token": TOKEN}
            fetch(f"{url}/api/v2/setup", body=json.dumps(setup).encode())
            yield Influx(process, url)


@dataclass(frozen=True, slots=True)
class Victoria:
    """A running VictoriaMetrics."""

    process: Process
    url: str

    def write(self, body: bytes) -> None:
        """Post line protocol with times in seconds. Series are named metric_MEASURE."""
        fetch(f"{self.url}/write?precision=s", body=body)

    def flush(self) -> None:
        """Make what was written searchable."""
        fetch(f"{self.url}/internal/force_flush")


@contextmanager
def victoria() -> Iterator[Victoria]:
    """Run VictoriaMetrics; its limit of series is raised so that 40,000 can be listed."""
    binary = program("victoria-metrics", "install VictoriaMetrics 1.151 (single node)")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with scratch() as folder:
        options = [f"-storageDataPath={folder}/data", f"-httpListenAddr=127.0.0.1:{port}", "-loggerLevel=ERROR"]
        options += ["-search.maxSeries=100000", "-retentionPeriod=60d"]
        with running([binary, *options], log=folder / "log") as process:
            process.wait_until(lambda: answers(f"{url}/health"))
            yield Victoria(process, url)


def exposed(address: str, name: str) -> float:
    """Return the value of a metric without labels that a process exposes to Prometheus at this address."""
    text = fetch(f"http://{address}/metrics").decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """A running gRPC server."""

    process: Process
    address: str
    metrics_address: str = ""

    def metric(self, name: str) -> float:
        """Return the value of a metric without labels that it exposes to Prometheus."""
        return exposed(self.metrics_address, name)

    def method_url(self, path: str) -> str:
        """Return what h2load calls; `path` is SERVICE/METHOD."""
        return f"http://{self.address}/{path}"

    def is_serving(self) -> bool:
        """Whether its health says SERVING; without a health service, whether it takes connections."""
        # A channel of its own connection: of several processes each may be asked.
        with grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError as error:
                return error.code() is grpc.StatusCode.UNIMPLEMENTED
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def query_service(store_url: str, *, processes: int = 1) -> Iterator[GrpcServer]:
    """Run `tickwatch query` on a store, in one process or several, until it serves."""
    with starting_query_service(store_url, processes=processes) as server:
        # Connections are dealt out by chance; that 16 of them all miss one of two processes is not to be feared.
        server.process.wait_until(
            lambda: all(server.is_serving() for _ in range(1 if processes == 1 else 8 * processes)), seconds=600
        )
        yield server


@contextmanager
def starting_query_service(store_url: str, *, processes: int = 1) -> Iterator[GrpcServer]:
    """Run `tickwatch query` on a store, not waiting for it to be ready."""
    address, metrics_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environment = {**tickwatch_environment(store_url), "TICKWATCH_QUERY__LISTEN": address}
    environment["TICKWATCH_QUERY__PROCESSES"] = str(processes)
    if processes == 1:
        environment["TICKWATCH_METRICS__LISTEN"] = metrics_address
    command = [*TICKWATCH, "query"]
    with scratch() as folder, running(command, log=folder / "log", environment=environment) as process:
        yield GrpcServer(process, address, metrics_address)


@dataclass(frozen=True, slots=True)
class WebServer:
    """A running gateway."""

    process: Process
    address: str
    metrics_address: str

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    def metric(self, name: str) -> float:
        """Return the value of a metric without labels that it exposes to Prometheus."""
        return exposed(self.metrics_address, name)


@contextmanager
def gateway_service(query: str) -> Iterator[WebServer]:
    """Run `tickwatch gateway` over a query service, without a limit of requests, until it is ready."""
    address, metrics_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environment = {
        "TICKWATCH_CONFIG": os.devnull,
        "TICKWATCH_GATEWAY__LISTEN": address,
        "TICKWATCH_GATEWAY__QUERY": query,
        "TICKWATCH_GATEWAY__REQUESTS_PER_SECOND": "1000000",
        "TICKWATCH_GATEWAY__BURST": "1000000",
        "TICKWATCH_METRICS__LISTEN": metrics_address,
    }
    with scratch() as folder, running([*TICKWATCH, "gateway"], log=folder / "log", environment=environment) as process:
        process.wait_until(lambda: answers(f"http://{address}/readyz"))
        yield WebServer(process, address, metrics_address)


TICKWATCH = (sys.executable, "-m", "services.cli")


def tickwatch_environment(store_url: str) -> dict[str, str]:
    """Return the variables by which a process of ours uses this store and no file of settings."""
    return {"TICKWATCH_STORE": store_url, "TICKWATCH_CONFIG": os.devnull, "INFLUXDB_V2_TOKEN": TOKEN}


@contextmanager
def floor_server(kind: str, prepared: Mapping[str, bytes]) -> Iterator[GrpcServer]:
    """Run the gRPC floor (see `benchmarks.floor`) with prepared answers by name."""
    address = f"127.0.0.1:{free_port()}"
    with scratch() as folder:
        (folder / "answers").mkdir()
        for name, answer in prepared.items():
            (folder / "answers" / name).write_bytes(answer)
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "benchmarks.floor",
            kind,
            address.rpartition(":")[2],
            folder / "answers",
        ]
        with running(command, log=folder / "log") as process:
            server = GrpcServer(process, address)
            process.wait_until(server.is_serving)
            yield server


def floor_path(name: str) -> str:
    """Return the path of a prepared answer on a floor server."""
    return f"{SERVICE}/{name}"
