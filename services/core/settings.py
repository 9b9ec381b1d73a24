"""What can be set, from `tickwatch.yaml` and TICKWATCH_* variables. The only module that reads the environment.

A variable's name is the setting's path in capitals, its levels joined by two underscores: TICKWATCH_QUERY__LISTEN sets
`query.listen`. Variables win over the file, command line flags over both. Every attribute here, in `server_settings`
and in `alerter_settings` is followed by its meaning, unit and the reason for its default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from services.core.alerter_settings import AlerterSettings
from services.core.errors import InvalidSettingError
from services.core.sections import Problem, Secret, Section, read_section
from services.core.server_settings import CredentialSettings, ServerSettings
from services.core.setting_types import Address, BaseUrl, Name, Seconds, Words
from services.core.suggesting import nearest

if TYPE_CHECKING:
    from services.core.documents import Node

PREFIX = "TICKWATCH_"
FILE_NAME = "tickwatch.yaml"

IN_CLUSTER = Path("cluster")
"""Stands where a file of markets or rules would: they are resources of Kubernetes."""


class InfluxSettings(Section, frozen=True):
    """How to speak with an InfluxDB store."""

    token: Secret | None = None
    """The API token. Also read from INFLUXDB_V2_TOKEN, the variable that InfluxDB's own clients read."""
    token_file: Path | None = None
    """A file that holds the token, such as a mounted secret; used where `token` is absent."""
    timeout_seconds: Seconds = 10.0
    """The deadline of one call. A minute's write takes milliseconds; ten seconds outlast a restart's hiccup."""


class ExchangeSettings(Section, frozen=True):
    """How to speak with one exchange."""

    base_url: BaseUrl | None = None
    """Where its API is. None: the exchange's public address."""
    calls_per_second: Annotated[float, Meta(gt=0, le=1000)] | None = None
    """The pace of calls that fill gaps, for as long as a backfill takes. None: what the exchange is known to bear."""


class CollectorSettings(Section, frozen=True):
    """How runs are scheduled."""

    settle_seconds: Annotated[float, Meta(ge=0, lt=60)] = 2.0
    """How long after a minute's end the loop runs: exchanges publish a minute's last trades a moment late."""
    shards: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Among how many collectors the metrics are divided."""
    shard: Annotated[int, Meta(ge=0, lt=1024)] = 0
    """Which of them this one is, from 0. Also read from JOB_COMPLETION_INDEX, which an Indexed Job sets."""
    job_name: str | None = None
    """The name of the Job that runs this collector; its trailing number is the scheduled time in minutes."""


class QuerySettings(Section, frozen=True):
    """The query service."""

    listen: Address = "127.0.0.1:50051"
    """Where it answers gRPC. Loopback; where others reach it, `server` has to protect it."""
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    """In how many processes it answers on one port; each fills the cores that Python leaves, and its own memory."""
    poll_interval_seconds: Seconds = 1.0
    """How often it asks the store for what is new. A minute's points then show within about a second."""
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """How long it serves on after SIGTERM while load balancers learn of it. 0 fits a machine without any."""
    max_streams: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """How many streams each process serves at once; each takes a thread."""
    health_listen: Address | None = None
    """Where the health service alone answers in plain text, for probes that know no TLS. None: nowhere."""
    reflection: bool = True
    """Whether grpcurl and the like may ask for the contract."""


class GatewaySettings(Section, frozen=True):
    """The gateway: REST and the dashboard, for whoever does not speak gRPC."""

    listen: Address = "127.0.0.1:8080"
    """Where it answers HTTP. Loopback; elsewhere its callers have to bring tokens that the services ask for."""
    insecure: bool = False
    """Whether it may listen where others reach it though it reads for whoever shows no token."""
    query: str = "127.0.0.1:50051"
    """The query service behind it: HOST:PORT, or dns:///NAME:PORT for a name with several addresses."""
    alerts: str = "127.0.0.1:50052"
    """The alerter behind it, written likewise."""
    cors_origins: Words = ()
    """Pages of these origins, such as https://desk.example.com, may read its answers; "*" is any. None by default: the
    dashboard comes from the gateway itself."""
    requests_per_second: Annotated[float, Meta(gt=0, le=1_000_000)] | None = 50.0
    """How often one client may ask in the long run: an address, of IPv6 a network of 64 bits. None: as it likes."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """How many requests a client may make at once; a dashboard that opens makes about thirty."""
    trusted_proxies: Words = ()
    """Proxies, by address or network, whose X-Forwarded-For says who the client is. None by default: anybody can send
    such a header."""
    max_streams: Annotated[int, Meta(ge=1, le=100_000)] = 4096
    """How many event streams it serves at once; each takes a connection and about 50 kB."""
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """How long it serves on after SIGTERM while load balancers learn of it. 0 fits a machine without any."""
    credentials: CredentialSettings = CredentialSettings()


class KubernetesSettings(Section, frozen=True):
    """How to speak with the cluster, where something of ours is kept there."""

    namespace: Name | None = None
    """Where our resources are. None: the pod's own, elsewhere that of the kubeconfig's context."""
    kubeconfig: str | None = None
    """Files that say where the cluster is, as KUBECONFIG names them, which is read too. None: what every pod is given,
    elsewhere ~/.kube/config."""


class MetricsSettings(Section, frozen=True):
    """What Prometheus scrapes."""

    listen: Address | None = None
    """Where /metrics answers. None: nowhere."""


class LogSettings(Section, frozen=True):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] | None = None
    """The least severe level that is logged. None: info, or what the command that runs deems enough."""
    format: Literal["auto", "json", "console"] = "auto"
    """JSON lines or text for people. auto: text on a terminal, else JSON."""


class Settings(Section, frozen=True):
    """Everything that can be set."""

    store: str = "sqlite:data/tickwatch.db"
    """The store's URL: sqlite:PATH, memory:, or influxdb+http://HOST:8086/ORG/BUCKET."""
    catalog: Path | None = None
    """The YAML file that says which markets are tracked, or `cluster`: the Markets of `kubernetes.namespace`. None:
    BTCUSD, ETHUSD and XRPUSD on Kraken."""
    influxdb: InfluxSettings = InfluxSettings()
    exchanges: Mapping[Literal["binance", "coinbase", "kraken", "simulated"], ExchangeSettings] = {}
    collector: CollectorSettings = CollectorSettings()
    server: ServerSettings = ServerSettings()
    query: QuerySettings = QuerySettings()
    alerter: AlerterSettings = AlerterSettings()
    gateway: GatewaySettings = GatewaySettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @property
    def store_token(self) -> str | None:
        """The token of an InfluxDB store; raises InvalidSettingError when its file cannot be read."""
        if self.influxdb.token is not None:
            return self.influxdb.token.reveal()
        if self.influxdb.token_file is None:
            return None
        try:
            return self.influxdb.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidSettingError(
                "influxdb.token_file", f"{self.influxdb.token_file} cannot be read: {error.strerror}"
            ) from error


_FOREIGN_VARIABLES = {
    "INFLUXDB_V2_TOKEN": ("influxdb", "token"),
    "KUBECONFIG": ("kubernetes", "kubeconfig"),
    "JOB_COMPLETION_INDEX": ("collector", "shard"),
}
"""Variables that others set and that mean one of our settings; our own variables win."""


_NOT_SETTINGS = {
    f"{PREFIX}{name}"
    for name in ("RIG", "SERVER", "ALERTS", "TLS", "CA", "CERT", "KEY", "TOKEN_FILE", "TEST_STREAMS", "TEST_IMAGE")
}
"""Variables that commands and tests read themselves."""


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        path: The file. None: TICKWATCH_CONFIG, else `tickwatch.yaml` in the working directory if there is one.
        environment: The variables. None: the process's.

    Raises:
        InvalidSettingError: For an unreadable file, an unknown key or variable (with the nearest right one), a
            duplicate key, or a value that does not fit; all problems of a kind at once, a line each.
    """
    variables = dict(os.environ if environment is None else environment)
    chosen = variables.pop(f"{PREFIX}CONFIG", None)
    if path is None and (chosen or Path(FILE_NAME).exists()):
        path = Path(chosen or FILE_NAME)
    document = None
    if path is not None:
        from services.core.documents import load_document  # noqa: PLC0415  where there is no file, YAML is not loaded

        document = load_document(path)
    values: dict[str, object] = {}
    if document is not None:
        plain = document.plain()
        values = plain if isinstance(plain, dict) else dict(document.mapping())
    origins: dict[tuple[str, ...], str] = {}
    for name, steps in _variables(variables):
        _put(values, steps, variables[name], name)
        origins[steps] = name
    settings, problems = read_section(Settings, values)
    if settings is None:
        raise _readable(problems, document, origins)
    return settings


def _variables(variables: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """Pair each variable that is a setting with its path; ours last, so that they win."""
    foreign = [(name, steps) for name, steps in _FOREIGN_VARIABLES.items() if variables.get(name)]
    ours = [
        (name, tuple(name.removeprefix(PREFIX).lower().split("__")))
        for name in sorted(variables)
        if name.startswith(PREFIX) and name not in _NOT_SETTINGS
    ]
    return foreign + ours


def _put(values: dict[str, object], steps: tuple[str, ...], value: str, name: str) -> None:
    here = values
    for step in steps[:-1]:
        below = here.setdefault(step, {})
        if not isinstance(below, dict):
            raise InvalidSettingError(name, f"{step!r} is not a section")
        here = below
    here[steps[-1]] = value


def _readable(problems: list[Problem], document: Node | None, origins: Mapping[tuple[str, ...], str]) -> Exception:
    """Say each problem on a line of its own: where it stands, what is wrong, what would be right."""
    lines = []
    for steps, text, known in problems:
        names = tuple(str(step) for step in steps)
        variable = next((origins[path] for path in origins if path[: len(names)] == names), None)
        where = variable or (document.at(steps).where if document else "settings")
        name = ".".join(names)
        wrong = f"{name}: {text}" if text else f"unknown key {name!r} ({nearest(names[-1], known)})"
        lines.append((where, wrong))
    (where, first), *others = lines
    return InvalidSettingError(where, "\n".join([first, *(f"{place}: {wrong}" for place, wrong in others)]))
