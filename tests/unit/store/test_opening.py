"""From a URL to a store: what is wrong is named, what would be right is said, and no secret is repeated."""

from __future__ import annotations

import math
import pathlib
import subprocess
import sys

import pytest

from services.core.errors import InvalidSettingError
from services.core.store.opening import open_store

FORMS = "(write sqlite:PATH, memory: or influxdb+http://HOST:8086/ORG/BUCKET)"
PATH = "(write sqlite:PATH, as in sqlite:tickwatch.db or sqlite:/var/lib/tickwatch/tickwatch.db)"
INFLUX = "(write influxdb+http://HOST:8086/ORG/BUCKET)"
NO_CREDENTIALS = "(leave them out; the token is INFLUXDB_V2_TOKEN or a mounted file)"
NO_QUERY = "(write influxdb+http://HOST:8086/ORG/BUCKET; the token never stands in it)"

WRONG_URLS = [
    ("", f"store: '' is not the URL of a store {FORMS}"),
    ("tickwatch.db", f"store: 'tickwatch.db' is not the URL of a store {FORMS}"),
    ("postgres://db/x", f"store: 'postgres://db/x' is of no kind of store that we have {FORMS}"),
    ("SQLITE:t.db", f"store: 'SQLITE:t.db' is of no kind of store that we have {FORMS}"),
    ("http://h:8086/o/b", f"store: 'http://h:8086/o/b' is of no kind of store that we have {FORMS}"),
    ("influxdb://h:8086/o/b", f"store: 'influxdb://h:8086/o/b' is of no kind of store that we have {FORMS}"),
    ("memory:x", "store: 'memory:x' says more than memory: can hold (write memory:)"),
    ("memory://", "store: 'memory://' says more than memory: can hold (write memory:)"),
    ("sqlite:", f"store: sqlite: names no file {PATH}"),
    ("sqlite:///t.db", f"store: 'sqlite:///t.db' has slashes after sqlite:, which takes a path {PATH}"),
    ("sqlite::memory:", "store: 'sqlite::memory:' is not a file (for a store without a file write memory:)"),
    ("sqlite:~/t.db", "store: 'sqlite:~/t.db': ~ is not expanded here (write the folder in full)"),
    ("sqlite:a\0b", f"store: a path holds no NUL character {PATH}"),
    ("influxdb+http:", f"store: 'influxdb+http:' names no host {INFLUX}"),
    ("influxdb+http:///o/b", f"store: 'influxdb+http:///o/b' names no host {INFLUX}"),
    ("influxdb+http://h", f"store: 'influxdb+http://h' does not name one organisation and one bucket {INFLUX}"),
    ("influxdb+http://h/o", f"store: 'influxdb+http://h/o' does not name one organisation and one bucket {INFLUX}"),
    ("influxdb+http://h/o/", f"store: 'influxdb+http://h/o/' does not name one organisation and one bucket {INFLUX}"),
    ("influxdb+http://h//b", f"store: 'influxdb+http://h//b' does not name one organisation and one bucket {INFLUX}"),
    (
        "influxdb+http://h/o/b/c",
        f"store: 'influxdb+http://h/o/b/c' does not name one organisation and one bucket {INFLUX}",
    ),
    ("influxdb+http://h:0/o/b", f"store: 'influxdb+http://h:0/o/b': port 0 is nowhere {INFLUX}"),
    (
        "influxdb+http://h:99999/o/b",
        f"store: 'influxdb+http://h:99999/o/b': Port out of range 0-65535 {INFLUX}",
    ),
    (
        "influxdb+http://h/o/_monitoring",
        "store: bucket '_monitoring' belongs to InfluxDB itself (name a bucket of yours)",
    ),
    ("influxdb+http://h h/o/b", f"store: 'influxdb+http://h h/o/b' names no host {INFLUX}"),
    ("influxdb+http://me:secret@h/o/b", f"store: 'influxdb+http://…@h/o/b' holds credentials {NO_CREDENTIALS}"),
    ("influxdb+http://secret@h/o/b", f"store: 'influxdb+http://…@h/o/b' holds credentials {NO_CREDENTIALS}"),
    ("influxdb+http://me:secret:1@h/o/b", f"store: 'influxdb+http://…@h/o/b' holds credentials {NO_CREDENTIALS}"),
    ("influxdb+http://me:secret/x@h/o/b", f"store: 'influxdb+http://…@h/o/b' holds credentials {NO_CREDENTIALS}"),
    ("influxdb+http://me:secret[@h/o/b", f"store: 'influxdb+http://…@h/o/b' holds credentials {NO_CREDENTIALS}"),
    ("influxdb+http:me:secret@h/o/b", f"store: 'influxdb+http:…@h/o/b' holds credentials {NO_CREDENTIALS}"),
    ("influxdb+http://me:secret?x@h/o/b", f"store: 'influxdb+http://…' holds credentials {NO_CREDENTIALS}"),
    ("influxdb+http://h/o/b?token=x@secret", f"store: 'influxdb+http://…' holds credentials {NO_CREDENTIALS}"),
    ("postgres://me:secret@db/x", f"store: 'postgres://…@db/x' is of no kind of store that we have {FORMS}"),
    ("secret@db", f"store: '…@db' is not the URL of a store {FORMS}"),
    ("influxdb+http://[::1/o/b", f"store: 'influxdb+http://[::1/o/b': Invalid IPv6 URL {INFLUX}"),
    (
        "influxdb+http://h:port/o/b",
        f"store: 'influxdb+http://h:port/o/b': Port could not be cast to integer value as 'port' {INFLUX}",
    ),
    (
        "influxdb+http://h/o/b?token=secret",
        f"store: 'influxdb+http://h/o/b?…' has something after the bucket {NO_QUERY}",
    ),
    ("influxdb+http://h/o/b#secret", f"store: 'influxdb+http://h/o/b?…' has something after the bucket {NO_QUERY}"),
]

WRONG_ARGUMENTS = [
    ({"timeout_seconds": 0.0}, "store.timeout_seconds: 0.0 is not a time to wait (above 0)"),
    ({"timeout_seconds": -1.0}, "store.timeout_seconds: -1.0 is not a time to wait (above 0)"),
    ({"timeout_seconds": math.nan}, "store.timeout_seconds: nan is not a time to wait (above 0)"),
    ({"timeout_seconds": math.inf}, "store.timeout_seconds: inf is not a time to wait (above 0)"),
    ({"retention_days": 0}, "store.retention_days: 0 is not a number of days (at least 1)"),
]


@pytest.mark.parametrize(("url", "message"), WRONG_URLS)
def test_a_wrong_url_is_refused(url: str, message: str) -> None:
    """Every malformed URL gets the one error that says what would be right, without anything secret of it."""
    with pytest.raises(InvalidSettingError) as caught:
        open_store(url, token="a-token")

    assert str(caught.value) == message
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS)
def test_a_wrong_argument_is_refused(arguments: dict[str, float], message: str) -> None:
    """The other arguments are checked before anything is opened."""
    with pytest.raises(InvalidSettingError) as caught:
        open_store("memory:", **arguments)

    assert str(caught.value) == message


@pytest.mark.parametrize("token", [None, ""])
def test_influxdb_needs_a_token(token: str | None) -> None:
    """Without one the error says where it is read from."""
    with pytest.raises(InvalidSettingError) as caught:
        open_store("influxdb+http://h:8086/o/b", token=token)

    assert str(caught.value) == "store: InfluxDB needs a token (set INFLUXDB_V2_TOKEN, or mount it as a file)"


def test_names_in_a_url_may_be_encoded() -> None:
    """An organisation or a bucket with a space or a slash is written as in any URL."""
    with open_store("influxdb+http://h:8086/my%20org/a%2Fb", token="t") as store:
        assert store.url == "influxdb+http://h:8086/my%20org/a%2Fb"


def test_sqlite_loads_no_influxdb_client(tmp_path: pathlib.Path) -> None:
    """A process on SQLite does not pay for the other database's client, nor the other way round."""
    code = (
        "import sys; from services.core.store.opening import open_store\n"
        f"open_store('sqlite:{tmp_path / 't.db'}').close()\n"
        "print(sorted({'influxdb_client', 'httpx', 'grpc'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
