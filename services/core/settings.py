"""What can be set, from `tickwatch.yaml` and TICKWATCH_* variables. The only module that reads the environment.

A variable's name is the setting's path in capitals, its levels joined by two underscores: TICKWATCH_QUERY__LISTEN sets
`query.listen`. Variables win over the file, command line flags over both. Every attribute below is followed by its
meaning, unit and the reason for its default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from services.core.errors import InvalidSettingError
from services.core.sections import Bounds, Checked, Problem, Secret, Section, Split, read_section
from services.core.suggesting import nearest

if TYPE_CHECKING:
    from services.core.documents import Node

PREFIX = "TICKWATCH_"
FILE_NAME = "tickwatch.yaml"

IN_CLUSTER = Path("cluster")
"""Stands where a file of markets or rules would: they are resources of Kubernetes."""


def _address(value: str) -> str:
    """Check HOST:PORT; 0 as port takes a free one."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s/\[\]]+):(\d{1,5})", value)
    if not found or int(found[2]) > 65_535:  # noqa: PLR2004  # the highest port
        raise ValueError(f"{value!r} is not HOST:PORT, as in 127.0.0.1:50051 or [::1]:50051")
    return value


def _base_url(value: str) -> str:
    """Check an HTTP address without a query."""
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError(f"{value!r} is not an address such as https://api.example.com")
    return value.rstrip("/")


def _secret_url(value: Secret) -> Secret:
    """Check an address that may itself be a secret, as those of chats and dead man's switches are: never repeat it."""
    url = value.reveal()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not an address such as https://hooks.example.com/tickwatch") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("is not an http:// or https:// address")
    if "@" in parts.netloc:
        raise ValueError("has a user or a password in it, and requests are signed instead")
    if not host or parts.fragment or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("is not an address such as https://hooks.example.com/tickwatch")
    return value


def _receiver_name(value: str) -> str:
    """Check a receiver's name; small letters, because variables cannot tell capitals."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", value) or "__" in value:
        raise ValueError(f"{value!r} is not a receiver's name: small letters, digits, - and _, at most 63")
    return value


def _some_text(value: str) -> str:
    if not value:
        raise ValueError("input should not be empty")
    return value


def _rule_glob(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_*?-]{1,64}", value):
        raise ValueError(f"{value!r} is neither a rule's name nor a glob: letters, digits, -, _, * and ?, at most 64")
    return value


def _resource_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        raise ValueError(f"{value!r} is not a name of Kubernetes': small letters, digits and -, at most 63")
    return value


def _audience(value: str) -> str:
    if not re.fullmatch(r"[!-~]{1,253}", value):
        raise ValueError(f"{value!r} is not an audience: visible ASCII characters, as in tickwatch")
    return value


def _account_glob(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9.*?-]{1,63}/[a-z0-9.*?-]{1,253}", value):
        raise ValueError(f"{value!r} is not NAMESPACE/NAME, or a glob such as monitoring/*")
    return value


_Name = Annotated[str, Checked(_resource_name)]
_Address = Annotated[str, Checked(_address)]
_Seconds = Annotated[float, Bounds(gt=0, le=86_400)]
_SecretUrl = Annotated[Secret, Checked(_secret_url)]
_Words = Annotated[tuple[str, ...], Split()]
_Audience = Annotated[str, Checked(_audience)]
_AccountGlobs = Annotated[tuple[Annotated[str, Checked(_account_glob)], ...], Split()]
_NameGlobs = Annotated[tuple[Annotated[str, Checked(_some_text)], ...], Split()]
_RuleGlobs = Annotated[tuple[Annotated[str, Checked(_rule_glob)], ...], Split()]

_LEAST_SECRET = 16


class InfluxSettings(Section, frozen=True):
    """How to speak with an InfluxDB store."""

    token: Secret | None = None
    """The API token. Also read from INFLUXDB_V2_TOKEN, the variable that InfluxDB's own clients read."""
    token_file: Path | None = None
    """A file that holds the token, such as a mounted secret; used where `token` is absent."""
    timeout_seconds: _Seconds = 10.0
    """The deadline of one call. A minute's write takes milliseconds; ten seconds outlast a restart's hiccup."""


class ExchangeSettings(Section, frozen=True):
    """How to speak with one exchange."""

    base_url: Annotated[str, Checked(_base_url)] | None = None
    """Where its API is. None: the exchange's public address."""
    calls_per_second: Annotated[float, Bounds(gt=0, le=1000)] | None = None
    """The pace of calls that fill gaps, for as long as a backfill takes. None: what the exchange is known to bear."""


class CollectorSettings(Section, frozen=True):
    """How runs are scheduled."""

    settle_seconds: Annotated[float, Bounds(ge=0, lt=60)] = 2.0
    """How long after a minute's end the loop runs: exchanges publish a minute's last trades a moment late."""
    shards: Annotated[int, Bounds(ge=1, le=1024)] = 1
    """Among how many collectors the metrics are divided."""
    shard: Annotated[int, Bounds(ge=0, lt=1024)] = 0
    """Which of them this one is, from 0. Also read from JOB_COMPLETION_INDEX, which an Indexed Job sets."""
    job_name: str | None = None
    """The name of the Job that runs this collector; its trailing number is the scheduled time in minutes."""


class TlsSettings(Section, frozen=True):
    """The certificate that our servers show, and those that callers have to show. Files are read again when they
    change.
    """

    certificate_file: Path | None = None
    """The servers' certificate and those that lead to its authority, in PEM. None: no TLS."""
    key_file: Path | None = None
    """Its private key, in PEM, without a passphrase."""
    client_ca_file: Path | None = None
    """The authorities, in PEM, of which one has to have signed a caller's certificate. None: callers need none."""
    client_admins: _NameGlobs = ()
    """Whose certificates may do everything where no tokens are asked for: common or alternative names, or globs. All
    others may read."""

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: set both or neither")
        if self.client_ca_file is not None and self.certificate_file is None:
            raise ValueError("client_ca_file needs certificate_file and key_file")
        if self.client_admins and self.client_ca_file is None:
            raise ValueError("client_admins needs client_ca_file: names count only in certificates that are verified")


class ServiceAccountSettings(Section, frozen=True):
    """Callers who show the token of a Kubernetes service account."""

    audience: _Audience | None = None
    """For whom their tokens have to be; such as tickwatch. None: such tokens are not taken."""
    readers: _AccountGlobs = ()
    """Who may read: NAMESPACE/NAME, or globs such as monitoring/*."""
    admins: _AccountGlobs = ()
    """Who may do everything, written likewise."""

    def __post_init__(self) -> None:
        if self.audience is None and (self.readers or self.admins):
            raise ValueError("readers and admins need an audience, as in audience: tickwatch")
        if self.audience is not None and not (self.readers or self.admins):
            raise ValueError("an audience lets nobody in by itself: name readers or admins")


class ServerSettings(Section, frozen=True):
    """What every gRPC server asks of its callers, and how much of them it bears."""

    tls: TlsSettings = TlsSettings()
    tokens_file: Path | None = None
    """A YAML file of tokens that callers may show, read again when it changes. None: none."""
    service_accounts: ServiceAccountSettings = ServiceAccountSettings()
    insecure: bool = False
    """Whether servers may listen where others reach them without TLS, or without asking who calls."""
    max_calls: Annotated[int, Bounds(ge=16, le=1_000_000)] = 8192
    """How many calls may be open or waiting at once in a process, streams and watchers of health among them. Above
    what streams are allowed: it is there for a flood."""
    max_streams_per_client: Annotated[int, Bounds(ge=1, le=100_000)] = 128
    """How many streams of a kind one caller may have at once, or one address where callers have no name. Half of what
    the query service bears: nobody takes it all."""


class CredentialSettings(Section, frozen=True):
    """What one of our own clients shows to a server. Files are read again when they change."""

    tls: bool | None = None
    """Whether it speaks TLS. None: if any of the others is set."""
    ca_file: Path | None = None
    """The authorities, in PEM, of which one has to have signed the server's certificate. None: those of gRPC."""
    certificate_file: Path | None = None
    """The client's own certificate, in PEM, for servers that ask for one."""
    key_file: Path | None = None
    """Its private key, in PEM."""
    token_file: Path | None = None
    """A file that holds the token to show."""

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: set both or neither")
        if self.tls is False and (self.ca_file or self.certificate_file):
            raise ValueError("tls is off, so ca_file and certificate_file would not be used: leave tls or them out")


class QuerySettings(Section, frozen=True):
    """The query service."""

    listen: _Address = "127.0.0.1:50051"
    """Where it answers gRPC. Loopback; where others reach it, `server` has to protect it."""
    processes: Annotated[int, Bounds(ge=1, le=64)] = 1
    """In how many processes it answers on one port; each fills the cores that Python leaves, and its own memory."""
    poll_interval_seconds: _Seconds = 1.0
    """How often it asks the store for what is new. A minute's points then show within about a second."""
    drain_seconds: Annotated[float, Bounds(ge=0, le=600)] = 0.0
    """How long it serves on after SIGTERM while load balancers learn of it. 0 fits a machine without any."""
    max_streams: Annotated[int, Bounds(ge=1, le=10_000)] = 256
    """How many streams each process serves at once; each takes a thread."""
    health_listen: _Address | None = None
    """Where the health service alone answers in plain text, for probes that know no TLS. None: nowhere."""
    reflection: bool = True
    """Whether grpcurl and the like may ask for the contract."""


class WebhookSettings(Section, frozen=True):
    """A receiver of breaches over HTTP."""

    url: _SecretUrl
    """Where events are posted: http or https. Kept out of logs and errors, because many such addresses are secrets."""
    secret: Secret | None = None
    """What requests are signed with, at least 16 characters. Either this or `secret_file`."""
    secret_file: Path | None = None
    """A file that holds the secret, such as a mounted one. White space around it does not count."""
    min_severity: Literal["info", "warning", "critical"] = "info"
    """Only events of this severity and above."""
    rules: _RuleGlobs = ()
    """Only events of these rules, by name or by glob. Empty: of all."""
    delivery: Literal["episodes", "every_breach"] = "episodes"
    """What is sent. A webhook often wakes people, and they want to know what begins and ends, not every point."""
    timeout_seconds: _Seconds = 10.0
    """How long a receiver may take to answer, all in all."""
    retry_seconds: Annotated[float, Bounds(ge=0, le=7 * 86_400)] = 3600.0
    """For how long a failing receiver is tried before an event goes to the dead letters. An hour outlasts a restart."""

    def __post_init__(self) -> None:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("give either secret or secret_file")
        if self.secret is not None and len(self.secret.reveal()) < _LEAST_SECRET:
            raise ValueError(f"secret is shorter than {_LEAST_SECRET} characters")

    def signing_secret(self, name: str) -> bytes:
        """Return the secret; raises InvalidSettingError, naming the receiver's setting, for a file that is no good."""
        if self.secret is not None:
            return self.secret.reveal().encode()
        field = f"alerter.webhooks.{name}.secret_file"
        assert self.secret_file is not None  # noqa: S101  # either is there, as checked above
        try:
            secret = self.secret_file.read_bytes().strip()
        except OSError as error:
            raise InvalidSettingError(field, f"{self.secret_file} cannot be read: {error.strerror}") from error
        if len(secret) < _LEAST_SECRET:
            raise InvalidSettingError(field, f"{self.secret_file} holds fewer than {_LEAST_SECRET} characters")
        return secret


class HeartbeatSettings(Section, frozen=True):
    """A sign of life to a dead man's switch, which raises the alarm when it stays away."""

    url: _SecretUrl | None = None
    """Where it goes. None: nowhere."""
    method: Literal["post", "get"] = "post"
    """How it is sent; without a body."""
    interval_seconds: Annotated[float, Bounds(ge=5, le=86_400)] = 60.0
    """How often. Let the switch wait for three of them: one may be lost."""


class AlerterSettings(Section, frozen=True):
    """The alerter."""

    listen: _Address = "127.0.0.1:50052"
    """Where it answers gRPC. Loopback; where others reach it, `server` has to protect it."""
    rules: Path | None = None
    """The YAML file of rules, read again when it changes, or `cluster`: the AlertRules of `kubernetes.namespace`. None:
    the built-in rules."""
    poll_interval_seconds: _Seconds = 1.0
    """How often it asks the store for what is new. A breach then shows within about a second of its point."""
    grace_seconds: Annotated[float, Bounds(ge=0, le=3600)] = 60.0
    """How long after a slot's end its points may come before they count as missing, unless a run says sooner that it is
    whole. A minute lets a run that has been held up make its next slot."""
    drain_seconds: Annotated[float, Bounds(ge=0, le=600)] = 0.0
    """How long it serves on after SIGTERM while load balancers learn of it. 0 fits a machine without any."""
    max_streams: Annotated[int, Bounds(ge=1, le=100_000)] = 1024
    """How many streams it serves at once; each takes a thread."""
    health_listen: _Address | None = None
    """Where the health service alone answers in plain text, for probes that know no TLS. None: nowhere."""
    reflection: bool = True
    """Whether grpcurl and the like may ask for the contract."""
    lease: _Name | None = None
    """The Lease of Kubernetes by which several alerters on one store choose the one that evaluates and notifies. None:
    this one does, and must be the only one."""
    webhooks: Mapping[Annotated[str, Checked(_receiver_name)], WebhookSettings] = {}
    heartbeat: HeartbeatSettings = HeartbeatSettings()


class GatewaySettings(Section, frozen=True):
    """The gateway: REST and the dashboard, for whoever does not speak gRPC."""

    listen: _Address = "127.0.0.1:8080"
    """Where it answers HTTP. Loopback; elsewhere its callers have to bring tokens that the services ask for."""
    insecure: bool = False
    """Whether it may listen where others reach it though it reads for whoever shows no token."""
    query: str = "127.0.0.1:50051"
    """The query service behind it: HOST:PORT, or dns:///NAME:PORT for a name with several addresses."""
    alerts: str = "127.0.0.1:50052"
    """The alerter behind it, written likewise."""
    cors_origins: _Words = ()
    """Pages of these origins, such as https://desk.example.com, may read its answers; "*" is any. None by default: the
    dashboard comes from the gateway itself."""
    requests_per_second: Annotated[float, Bounds(gt=0, le=1_000_000)] | None = 50.0
    """How often one client may ask in the long run: an address, of IPv6 a network of 64 bits. None: as it likes."""
    burst: Annotated[int, Bounds(ge=1, le=1_000_000)] = 200
    """How many requests a client may make at once; a dashboard that opens makes about thirty."""
    trusted_proxies: _Words = ()
    """Proxies, by address or network, whose X-Forwarded-For says who the client is. None by default: anybody can send
    such a header."""
    max_streams: Annotated[int, Bounds(ge=1, le=100_000)] = 4096
    """How many event streams it serves at once; each takes a connection and about 50 kB."""
    drain_seconds: Annotated[float, Bounds(ge=0, le=600)] = 0.0
    """How long it serves on after SIGTERM while load balancers learn of it. 0 fits a machine without any."""
    credentials: CredentialSettings = CredentialSettings()


class KubernetesSettings(Section, frozen=True):
    """How to speak with the cluster, where something of ours is kept there."""

    namespace: _Name | None = None
    """Where our resources are. None: the pod's own, elsewhere that of the kubeconfig's context."""
    kubeconfig: str | None = None
    """Files that say where the cluster is, as KUBECONFIG names them, which is read too. None: what every pod is given,
    elsewhere ~/.kube/config."""


class MetricsSettings(Section, frozen=True):
    """What Prometheus scrapes."""

    listen: _Address | None = None
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
    exchanges: Mapping[Literal["kraken", "simulated"], ExchangeSettings] = {}
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
