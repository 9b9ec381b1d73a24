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
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from services.core.documents import Node, load_document, nearest
from services.core.errors import InvalidSettingError

PREFIX = "TICKWATCH_"
FILE_NAME = "tickwatch.yaml"


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


_Address = Annotated[str, AfterValidator(_address)]
_Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InfluxSettings(_Section):
    """How to speak with an InfluxDB store."""

    token: SecretStr | None = None
    """The API token. Also read from INFLUXDB_V2_TOKEN, the variable that InfluxDB's own clients read."""
    token_file: Path | None = None
    """A file that holds the token, such as a mounted secret; used where `token` is absent."""
    timeout_seconds: _Seconds = 10.0
    """The deadline of one call. A minute's write takes milliseconds; ten seconds outlast a restart's hiccup."""


class ExchangeSettings(_Section):
    """How to speak with one exchange."""

    base_url: Annotated[str, AfterValidator(_base_url)] | None = None
    """Where its API is. None: the exchange's public address."""
    calls_per_second: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """The pace of calls that fill gaps, for as long as a backfill takes. None: what the exchange is known to bear."""


class CollectorSettings(_Section):
    """How runs are scheduled."""

    settle_seconds: Annotated[float, Field(ge=0, lt=60)] = 2.0
    """How long after a minute's end the loop runs: exchanges publish a minute's last trades a moment late."""
    shards: Annotated[int, Field(ge=1, le=1024)] = 1
    """Among how many collectors the metrics are divided."""
    shard: Annotated[int, Field(ge=0, lt=1024)] = 0
    """Which of them this one is, from 0. Also read from JOB_COMPLETION_INDEX, which an Indexed Job sets."""
    job_name: str | None = None
    """The name of the Job that runs this collector; its trailing number is the scheduled time in minutes."""


class QuerySettings(_Section):
    """The query service."""

    listen: _Address = "127.0.0.1:50051"
    """Where it answers gRPC. Loopback, because nothing protects it elsewhere unless somebody sets that up."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """In how many processes it answers on one port; each fills the cores that Python leaves, and its own memory."""
    poll_interval_seconds: _Seconds = 1.0
    """How often it asks the store for what is new. A minute's points then show within about a second."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    """How long it serves on after SIGTERM while load balancers learn of it. 0 fits a machine without any."""
    max_streams: Annotated[int, Field(ge=1, le=10_000)] = 256
    """How many streams each process serves at once; each takes a thread."""
    reflection: bool = True
    """Whether grpcurl and the like may ask for the contract."""


class MetricsSettings(_Section):
    """What Prometheus scrapes."""

    listen: _Address | None = None
    """Where /metrics answers. None: nowhere."""


class LogSettings(_Section):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is logged."""
    format: Literal["auto", "json", "console"] = "auto"
    """JSON lines or text for people. auto: text on a terminal, else JSON."""


class Settings(_Section):
    """Everything that can be set."""

    store: str = "sqlite:data/tickwatch.db"
    """The store's URL: sqlite:PATH, memory:, or influxdb+http://HOST:8086/ORG/BUCKET."""
    catalog: Path | None = None
    """The YAML file that says which markets are tracked. None: BTCUSD, ETHUSD and XRPUSD on Kraken."""
    influxdb: InfluxSettings = InfluxSettings()
    exchanges: Mapping[Literal["kraken", "simulated"], ExchangeSettings] = {}
    collector: CollectorSettings = CollectorSettings()
    query: QuerySettings = QuerySettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @property
    def store_token(self) -> str | None:
        """The token of an InfluxDB store; raises InvalidSettingError when its file cannot be read."""
        if self.influxdb.token is not None:
            return self.influxdb.token.get_secret_value()
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
    "JOB_COMPLETION_INDEX": ("collector", "shard"),
}
"""Variables that others set and that mean one of our settings; our own variables win."""


_NOT_SETTINGS = {f"{PREFIX}{name}" for name in ("RIG", "SERVER", "ALERTS", "TEST_STREAMS")}
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
    if path is None:
        path = Path(chosen) if chosen else Path(FILE_NAME)
        document = load_document(path) if chosen or path.exists() else None
    else:
        document = load_document(path)
    values: dict[str, object] = {}
    if document is not None:
        plain = document.plain()
        values = plain if isinstance(plain, dict) else dict(document.mapping())
    origins: dict[tuple[str, ...], str] = {}
    for name, steps in _variables(variables):
        _put(values, steps, variables[name], name)
        origins[steps] = name
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _readable(error, document, origins) from error


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


def _readable(error: ValidationError, document: Node | None, origins: Mapping[tuple[str, ...], str]) -> Exception:
    """Say each problem on a line of its own: where it stands, what is wrong, what would be right."""
    problems = []
    for detail in error.errors(include_url=False, include_input=False):
        steps = tuple(str(step) for step in detail["loc"] if step != "[key]")
        variable = next((origins[path] for path in origins if path[: len(steps)] == steps), None)
        where = variable or (document.at(detail["loc"]).where if document else "settings")
        name = ".".join(steps)
        if detail["type"] in ("extra_forbidden", "literal_error") and (known := _known_keys(steps)) is not None:
            problems.append((where, f"unknown key {name!r}", nearest(steps[-1], known)))
        else:
            problems.append((where, f"{name}: {_plainly(detail['msg'])}", ""))
    first, *others = problems
    lines = [f"{where}: {problem}" + (f" ({hint})" if hint else "") for where, problem, hint in others]
    return InvalidSettingError(first[0], "\n".join([first[1] + (f" ({first[2]})" if first[2] else ""), *lines]))


def _known_keys(steps: tuple[str, ...]) -> list[str] | None:
    """Return the keys that exist beside the last step, or None where that key is a known one."""
    if steps[:1] == ("exchanges",) and len(steps) == 2:  # noqa: PLR2004  # exchanges.NAME
        keys = ["kraken", "simulated"]
    else:
        model: type[BaseModel] = Settings
        for step in steps[:-1]:
            if step == "exchanges":
                model = ExchangeSettings
            elif (field := model.model_fields.get(step)) and isinstance(field.annotation, type):
                model = field.annotation
        keys = list(model.model_fields)
    return None if steps[-1] in keys else keys


def _plainly(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
