"""Settings come from a file and the environment; whatever is wrong is named, with its place and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import InvalidSettingError
from services.core.settings import load_settings


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

    assert "sesame" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_token_file_is_read(tmp_path):
    """The token may stand in a mounted file; surrounding white space does not count."""
    (tmp_path / "token").write_text("sesame\n", encoding="utf-8")

    settings = load_settings(None, {"TICKWATCH_INFLUXDB__TOKEN_FILE": str(tmp_path / "token")})

    assert settings.store_token == "sesame"


WRONG_FILES = [
    ("stoer: 'memory:'", ":1: unknown key 'stoer' (did you mean 'store'?)"),
    ("query:\n  listn: x:1", ":2: unknown key 'query.listn' (did you mean 'listen'?)"),
    ("query: {listen: nowhere}", ":1: query.listen: 'nowhere' is not HOST:PORT, as in 127.0.0.1:50051 or [::1]:50051"),
    ("query: {listen: 'h:70000'}", ":1: query.listen: 'h:70000' is not HOST:PORT"),
    ("query: {max_streams: 0}", ":1: query.max_streams: input should be greater than or equal to 1"),
    ("query: {poll_interval_seconds: .nan}", ":1: query.poll_interval_seconds: input should be"),
    ("query: {poll_interval_seconds: -1}", ":1: query.poll_interval_seconds: input should be greater than 0"),
    ("query: 5", ":1: query: input should be a valid dictionary"),
    ("store: a\nstore: b", ":2: the key 'store' is given twice (first at"),
    ("query:\n  listen: a:1\n  listen: b:1", ":3: the key 'listen' is given twice"),
    ("- a", ":1: a mapping was expected, not a list"),
    ("a: [", ":2: is not YAML: "),
    ("exchanges: {krakne: {}}", ":1: unknown key 'exchanges.krakne' (did you mean 'kraken'?)"),
    ("exchanges: {kraken: {base_url: 'ftp://x'}}", "'ftp://x' is not an address such as https://api.example.com"),
    (
        "exchanges: {kraken: {base_urll: 'http://x'}}",
        "unknown key 'exchanges.kraken.base_urll' (did you mean 'base_url'?)",
    ),
    ("log: {level: loud}", ":1: log.level: input should be 'debug', 'info', 'warning' or 'error'"),
    ("collector: {settle_seconds: 60}", ":1: collector.settle_seconds: input should be less than 60"),
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
    ("TICKWATCH_STORE__PATH", "x", "TICKWATCH_STORE__PATH: store: input should be a valid string"),
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
