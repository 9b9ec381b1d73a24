"""Settings come from a file and the environment; whatever is wrong is named, with its place and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import InvalidSettingError
from services.core.settings import Settings, load_settings
from tests.support.setting_paths import setting_paths


@pytest.fixture
def written(tmp_path: Path):
    """Write a settings file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "tickwatch.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults_need_no_file(tmp_path, monkeypatch):
    """Without a file and variables, everything has a default: SQLite below data/, loopback."""
    monkeypatch.chdir(tmp_path)

    settings = load_settings(None, {})

    assert ("sqlite:data/tickwatch.db", "127.0.0.1:50051") == (settings.store, settings.query.listen)


def test_variables_win_over_the_file(written):
    """A TICKWATCH_ variable replaces the file's value and leaves its neighbours alone."""
    path = written("query: {listen: 127.0.0.1:1, max_streams: 7}\n")

    settings = load_settings(path, {"TICKWATCH_QUERY__LISTEN": "127.0.0.1:2"})

    assert ("127.0.0.1:2", 7) == (settings.query.listen, settings.query.max_streams)


def test_the_file_may_be_named_by_a_variable(written):
    """TICKWATCH_CONFIG names the file."""
    path = written("store: 'memory:'\n")

    assert load_settings(None, {"TICKWATCH_CONFIG": str(path)}).store == "memory:"


def test_foreign_variables_are_understood_and_ours_win():
    """INFLUXDB_V2_TOKEN and JOB_COMPLETION_INDEX are read, unless our own variable says otherwise."""
    environment = {"INFLUXDB_V2_TOKEN": "theirs", "JOB_COMPLETION_INDEX": "3"}

    theirs = load_settings(None, environment)
    ours = load_settings(None, {**environment, "TICKWATCH_INFLUXDB__TOKEN": "ours"})

    assert ("theirs", 3) == (theirs.store_token, theirs.collector.shard)
    assert ours.store_token == "ours"


def test_a_token_never_shows():
    """No representation of the settings holds the token."""
    settings = load_settings(None, {"INFLUXDB_V2_TOKEN": "sesame"})

    assert "sesame" not in repr(settings) + str(settings)


def test_a_token_file_is_read(tmp_path):
    """The token may stand in a mounted file; surrounding white space does not count."""
    (tmp_path / "token").write_text("sesame\n", encoding="utf-8")

    settings = load_settings(None, {"TICKWATCH_INFLUXDB__TOKEN_FILE": str(tmp_path / "token")})

    assert settings.store_token == "sesame"


TEXT = "input should be text, in quotes where it looks like a number"
PATH = "input should be the path of a file, as text"
SECTION = "input should be a section of settings, each with its key"
NO_ADDRESS = "is not HOST:PORT, as in 127.0.0.1:50051 or [::1]:50051"
NO_NAME = "is not a name of Kubernetes': small letters, digits and -, at most 63"

WRONG_VALUES = [
    ("store: 5", f"store: {TEXT}"),
    ("store:", f"store: {TEXT}"),
    ("catalog: [KRAKEN]", f"catalog: {PATH}"),
    ("influxdb: {token: 5}", f"influxdb.token: {TEXT}"),
    ("influxdb: {token_file: 7}", f"influxdb.token_file: {PATH}"),
    ("influxdb: {timeout_seconds: 0}", "influxdb.timeout_seconds: input should be greater than 0"),
    ("influxdb: {timeout_seconds: -1}", "influxdb.timeout_seconds: input should be greater than 0"),
    ("influxdb: {timeout_seconds: ten}", "influxdb.timeout_seconds: input should be a number"),
    ("influxdb: {timeout_seconds: .inf}", "influxdb.timeout_seconds: input should be a finite number"),
    ("influxdb: {timeout_seconds: 86401}", "influxdb.timeout_seconds: input should be less than or equal to 86400"),
    ("exchanges: [kraken]", f"exchanges: {SECTION}"),
    ("exchanges: {kraken: 5}", f"exchanges.kraken: {SECTION}"),
    (
        "exchanges: {kraken: {base_url: api.kraken.com}}",
        "exchanges.kraken.base_url: 'api.kraken.com' is not an address such as https://api.example.com",
    ),
    (
        "exchanges: {kraken: {base_url: 'https://h/?token=x'}}",
        "exchanges.kraken.base_url: 'https://h/?token=x' is not an address such as https://api.example.com",
    ),
    ("exchanges: {kraken: {calls_per_second: 0}}", "exchanges.kraken.calls_per_second: input should be greater than 0"),
    (
        "exchanges: {kraken: {calls_per_second: 1001}}",
        "exchanges.kraken.calls_per_second: input should be less than or equal to 1000",
    ),
    (
        "exchanges: {kraken: {calls_per_second: .nan}}",
        "exchanges.kraken.calls_per_second: input should be a finite number",
    ),
    ("collector: {settle_seconds: -1}", "collector.settle_seconds: input should be greater than or equal to 0"),
    ("collector: {settle_seconds: 60}", "collector.settle_seconds: input should be less than 60"),
    ("collector: {settle_seconds: .nan}", "collector.settle_seconds: input should be a finite number"),
    ("collector: {shards: 0}", "collector.shards: input should be greater than or equal to 1"),
    ("collector: {shards: 2.5}", "collector.shards: input should be a whole number"),
    ("collector: {shards: 1025}", "collector.shards: input should be less than or equal to 1024"),
    ("collector: {shard: -1}", "collector.shard: input should be greater than or equal to 0"),
    ("collector: {shards: 1_0}", "collector.shards: input should be a whole number"),
    ("collector: {shards: 010}", "collector.shards: input should be a whole number"),
    ("collector: {shards: 2.0}", "collector.shards: input should be a whole number"),
    ("influxdb: {timeout_seconds: 1:30}", "influxdb.timeout_seconds: input should be a number"),
    ("collector: {shard: first}", "collector.shard: input should be a whole number"),
    ("collector: {job_name: 29500000}", f"collector.job_name: {TEXT}"),
    ("server: 5", f"server: {SECTION}"),
    ("server: {tls: {certificate_file: 5}}", f"server.tls.certificate_file: {PATH}"),
    ("server: {tls: {key_file: 5}}", f"server.tls.key_file: {PATH}"),
    (
        "server: {tls: {key_file: k.pem}}",
        "server.tls: certificate_file and key_file go together: set both or neither",
    ),
    ("server: {tls: {client_ca_file: 5}}", f"server.tls.client_ca_file: {PATH}"),
    ("server: {tls: {client_ca_file: c.pem}}", "server.tls: client_ca_file needs certificate_file and key_file"),
    ("server: {tls: {client_admins: 5}}", "server.tls.client_admins: input should be a list"),
    (
        "server: {tls: {client_admins: [ops]}}",
        "server.tls: client_admins needs client_ca_file: names count only in certificates that are verified",
    ),
    ("server: {tokens_file: 5}", f"server.tokens_file: {PATH}"),
    (
        "server: {service_accounts: {audience: ''}}",
        "server.service_accounts.audience: '' is not an audience: visible ASCII characters, as in tickwatch",
    ),
    (
        "server: {service_accounts: {audience: tickwatch}}",
        "server.service_accounts: an audience lets nobody in by itself: name readers or admins",
    ),
    (
        "server: {service_accounts: {readers: ['monitoring/*']}}",
        "server.service_accounts: readers and admins need an audience, as in audience: tickwatch",
    ),
    ("server: {service_accounts: {readers: 5}}", "server.service_accounts.readers: input should be a list"),
    ("server: {service_accounts: {admins: 5}}", "server.service_accounts.admins: input should be a list"),
    (
        "server: {service_accounts: {audience: t, admins: ['a/b/c']}}",
        "server.service_accounts.admins.0: 'a/b/c' is not NAMESPACE/NAME, or a glob such as monitoring/*",
    ),
    ("server: {insecure: perhaps}", "server.insecure: input should be true or false"),
    ("server: {max_calls: 15}", "server.max_calls: input should be greater than or equal to 16"),
    (
        "server: {max_streams_per_client: 0}",
        "server.max_streams_per_client: input should be greater than or equal to 1",
    ),
    ("query: 5", f"query: {SECTION}"),
    ("query:", f"query: {SECTION}"),
    ("query: {listen: nowhere}", f"query.listen: 'nowhere' {NO_ADDRESS}"),
    ("query: {listen: 'h:70000'}", f"query.listen: 'h:70000' {NO_ADDRESS}"),
    ("query: {listen: '::1:50051'}", f"query.listen: '::1:50051' {NO_ADDRESS}"),
    ("query: {processes: 0}", "query.processes: input should be greater than or equal to 1"),
    ("query: {processes: 65}", "query.processes: input should be less than or equal to 64"),
    ("query: {poll_interval_seconds: 0}", "query.poll_interval_seconds: input should be greater than 0"),
    ("query: {poll_interval_seconds: .nan}", "query.poll_interval_seconds: input should be a finite number"),
    ("query: {drain_seconds: -1}", "query.drain_seconds: input should be greater than or equal to 0"),
    ("query: {drain_seconds: 601}", "query.drain_seconds: input should be less than or equal to 600"),
    ("query: {drain_seconds: .nan}", "query.drain_seconds: input should be a finite number"),
    ("query: {max_streams: 0}", "query.max_streams: input should be greater than or equal to 1"),
    ("query: {max_streams: 10001}", "query.max_streams: input should be less than or equal to 10000"),
    ("query: {health_listen: '8081'}", f"query.health_listen: '8081' {NO_ADDRESS}"),
    ("query: {reflection: perhaps}", "query.reflection: input should be true or false"),
    ("kubernetes: {namespace: Market_Watch}", f"kubernetes.namespace: 'Market_Watch' {NO_NAME}"),
    ("kubernetes: {kubeconfig: 5}", f"kubernetes.kubeconfig: {TEXT}"),
    ("metrics: {listen: '9464'}", f"metrics.listen: '9464' {NO_ADDRESS}"),
    ("log: {level: loud}", "log.level: input should be 'debug', 'info', 'warning' or 'error'"),
    ("log: {format: xml}", "log.format: input should be 'auto', 'json' or 'console'"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_line(written, text, message):
    """Each wrong value gets the one error that names its place, its setting, and what would be right."""
    path = written(text)

    with pytest.raises(InvalidSettingError) as caught:
        load_settings(path, {})

    assert str(caught.value) == f"{path}:1: {message}"


def test_every_setting_has_a_wrong_value():
    """No setting is without a wrong value in the table; the alerter's stand in a table of their own."""
    tried = {message.partition(":")[0] for _, message in WRONG_VALUES}

    known = {name.replace(".NAME.", ".kraken.") for name, _ in setting_paths(Settings)}
    assert {name for name in known if not name.startswith(("alerter.", "gateway."))} <= tried


WRONG_FILES = [
    ("stoer: 'memory:'", ":1: unknown key 'stoer' (did you mean 'store'?)"),
    ("query:\n  listn: x:1", ":2: unknown key 'query.listn' (did you mean 'listen'?)"),
    ("query:\n  max_streams: 0", ":2: query.max_streams: input should be greater than or equal to 1"),
    ("store: a\nstore: b", ":2: the key 'store' is given twice (first at"),
    ("query:\n  listen: a:1\n  listen: b:1", ":3: the key 'listen' is given twice"),
    ("- a", ":1: a mapping was expected, not a list"),
    ("a: [", ":2: is not YAML: "),
    ("exchanges: {krakne: {}}", ":1: unknown key 'exchanges.krakne' (did you mean 'kraken'?)"),
    (
        "exchanges: {kraken: {base_urll: 'http://x'}}",
        "unknown key 'exchanges.kraken.base_urll' (did you mean 'base_url'?)",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG_FILES)
def test_what_is_wrong_in_a_file_is_named_with_its_line(written, text, message):
    """Each wrong file gets an error with its place, the reason, and the right key where one is near."""
    path = written(text)

    with pytest.raises(InvalidSettingError) as caught:
        load_settings(path, {})

    assert f"{path}" in str(caught.value)
    assert message in str(caught.value)


WRONG_VARIABLES = [
    ("TICKWATCH_QUERY__LISTN", "x:1", "TICKWATCH_QUERY__LISTN: unknown key 'query.listn' (did you mean 'listen'?)"),
    ("TICKWATCH_STOER", "memory:", "TICKWATCH_STOER: unknown key 'stoer' (did you mean 'store'?)"),
    ("TICKWATCH_COLLECTOR__SHARD", "-1", "TICKWATCH_COLLECTOR__SHARD: collector.shard: input should be greater than"),
    ("TICKWATCH_STORE__PATH", "x", "TICKWATCH_STORE__PATH: store: input should be text"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_VARIABLES)
def test_what_is_wrong_in_a_variable_is_named(name, value, message):
    """Each wrong variable is named, with the reason and the right key where one is near."""
    with pytest.raises(InvalidSettingError) as caught:
        load_settings(None, {name: value})

    assert message in str(caught.value)


def test_all_problems_are_reported_at_once(written):
    """Two mistakes give one error with two lines."""
    path = written("stoer: x\nlog: {level: loud}\n")

    with pytest.raises(InvalidSettingError) as caught:
        load_settings(path, {})

    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_is_named(tmp_path):
    """A file that was asked for and is not there is an error, not a default."""
    with pytest.raises(InvalidSettingError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml", {})
