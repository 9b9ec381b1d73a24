"""From a store's URL to the store. The only place that knows which backends there are.

Backends are imported when they are asked for: a process on SQLite never loads the InfluxDB client.
"""

from __future__ import annotations

import math
import re
from urllib.parse import unquote, urlsplit

from services.core.clock import Clock
from services.core.errors import InvalidSettingError
from services.core.store.base import RETENTION_DAYS, MetricStore

_FORMS = "sqlite:PATH, memory: or influxdb+http://HOST:8086/ORG/BUCKET"


def open_store(
    url: str,
    *,
    token: str | None = None,
    timeout_seconds: float = 10.0,
    clock: Clock | None = None,
    retention_days: int = RETENTION_DAYS,
) -> MetricStore:
    """Open the store at this URL: `sqlite:PATH`, `memory:`, `influxdb+http://HOST:8086/ORG/BUCKET` (or influxdb+https).

    `token` is InfluxDB's and is ignored by the others. `timeout_seconds` bounds every call that is not a bulk load:
    waiting for another process's lock on SQLite, a whole exchange with InfluxDB. Opening SQLite makes the file and
    its folder; opening InfluxDB sends nothing, so that a service may start before its database.

    Raises InvalidSettingError (field `store` or `store.…`) for a malformed URL or argument, StoreRefusedError and
    StoreUnavailableError where SQLite's file cannot be used.
    """
    if not (math.isfinite(timeout_seconds) and timeout_seconds > 0):
        raise InvalidSettingError("store.timeout_seconds", f"{timeout_seconds} is not a time to wait", "above 0")
    if retention_days < 1:
        raise InvalidSettingError("store.retention_days", f"{retention_days} is not a number of days", "at least 1")
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise InvalidSettingError("store", f"{_shown(url)} is not the URL of a store", f"write {_FORMS}")
    match scheme:
        case "memory":
            if rest:
                raise InvalidSettingError("store", f"{_shown(url)} says more than memory: can hold", "write memory:")
            from services.core.store.memory import MemoryMetricStore  # noqa: PLC0415 - only what is asked for

            return MemoryMetricStore(clock=clock, retention_days=retention_days)
        case "sqlite":
            _check_path(url, rest)
            from services.core.store.sqlite.store import SqliteMetricStore  # noqa: PLC0415 - only what is asked for

            return SqliteMetricStore(rest, timeout_seconds=timeout_seconds, clock=clock, retention_days=retention_days)
        case "influxdb+http" | "influxdb+https":
            address, org, bucket = _influxdb_parts(url)
            if not token:
                raise InvalidSettingError(
                    "store", "InfluxDB needs a token", "set INFLUXDB_V2_TOKEN, or mount it as a file"
                )
            from services.core.store.influx.store import InfluxMetricStore  # noqa: PLC0415 - only what is asked for

            return InfluxMetricStore(
                address,
                org=org,
                bucket=bucket,
                token=token,
                timeout_seconds=timeout_seconds,
                clock=clock,
                retention_days=retention_days,
            )
        case _:
            raise InvalidSettingError("store", f"{_shown(url)} is of no kind of store that we have", f"write {_FORMS}")


def _check_path(url: str, path: str) -> None:
    right = "write sqlite:PATH, as in sqlite:tickwatch.db or sqlite:/var/lib/tickwatch/tickwatch.db"
    if not path:
        raise InvalidSettingError("store", "sqlite: names no file", right)
    if path.startswith("//"):
        raise InvalidSettingError("store", f"{_shown(url)} has slashes after sqlite:, which takes a path", right)
    if path.startswith(":"):
        raise InvalidSettingError("store", f"{_shown(url)} is not a file", "for a store without a file write memory:")
    if path.startswith("~"):
        raise InvalidSettingError("store", f"{_shown(url)}: ~ is not expanded here", "write the folder in full")
    if "\0" in path:
        raise InvalidSettingError("store", "a path holds no NUL character", right)


def _influxdb_parts(url: str) -> tuple[str, str, str]:
    """Return the server's address, the organisation and the bucket."""
    right = "write influxdb+http://HOST:8086/ORG/BUCKET"
    if "@" in url:  # before anything else: other errors would quote what lies around it
        raise InvalidSettingError(
            "store",
            f"{_shown(url)} holds credentials",
            "leave them out; the token is INFLUXDB_V2_TOKEN or a mounted file",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidSettingError("store", f"{_shown(url)}: {error}", right) from None
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise InvalidSettingError(
            "store", f"{_shown(url)} has something after the bucket", f"{right}; the token never stands in it"
        )
    if not parts.hostname or re.search(r"[\s\\]", url):
        raise InvalidSettingError("store", f"{_shown(url)} names no host", right)
    if port == 0:
        raise InvalidSettingError("store", f"{_shown(url)}: port 0 is nowhere", right)
    names = [unquote(name) for name in parts.path.split("/")[1:]]
    if len(names) != 2 or not all(names):  # noqa: PLR2004 - an organisation and a bucket
        raise InvalidSettingError("store", f"{_shown(url)} does not name one organisation and one bucket", right)
    if names[1].startswith("_"):
        raise InvalidSettingError("store", f"bucket {names[1]!r} belongs to InfluxDB itself", "name a bucket of yours")
    return f"{parts.scheme.removeprefix('influxdb+')}://{parts.netloc}", names[0], names[1]


def _shown(url: str) -> str:
    """Return the URL as it may be repeated: without what looks like credentials.

    Nobody knows where a secret ends that holds a `?` or a `#` itself; then only the scheme is repeated.
    """
    scheme = "".join(re.findall(r"\A[a-z0-9+]+:/*", url))
    rest = url.removeprefix(scheme)
    _, at, after = rest.rpartition("@")
    if not at:
        rest = re.sub(r"[?#].*", "?…", rest, flags=re.DOTALL)
    elif re.search(r"[?#]", rest):
        rest = "…"
    else:
        rest = f"…@{after}"
    return repr((scheme + rest)[:200])
