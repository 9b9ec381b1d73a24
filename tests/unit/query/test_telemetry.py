"""Logs and metrics for operators."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from services.core.errors import InvalidSettingError
from services.core.logs import configure_logging
from services.core.rpc.metrics import rpc_metrics
from services.core.telemetry import FreshnessCollector, parse_listen, serve_metrics


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger its handlers and level back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_json_logs_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Level, logger, message, RFC 3339 time in UTC, exception and extra facts are fields of one JSON object a line."""
    configure_logging("info", "json")
    log = logging.getLogger("tickwatch.test")
    log.debug("not said")
    log.info("hello %s", "you", extra={"slot": 7})
    try:
        raise KeyError("x")  # noqa: TRY301 - to have a traceback
    except KeyError:
        log.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())

    assert (first["level"], first["logger"], first["message"], first["slot"]) == (
        "INFO",
        "tickwatch.test",
        "hello you",
        7,
    )
    assert first["timestamp"].endswith("+00:00")
    assert "KeyError" in second["exc_info"]


def test_console_logs_replace_earlier_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Configuring twice logs once."""
    configure_logging("debug", "json")
    configure_logging("debug", "console")
    logging.getLogger("tickwatch.test").debug("said")
    (line,) = capsys.readouterr().err.splitlines()

    assert line.endswith("DEBUG   tickwatch.test: said")


@pytest.mark.parametrize(
    ("level", "format_", "message"),
    [
        ("loud", "json", "log.level: 'loud' is not a level (one of debug, info, warning, error)"),
        ("info", "xml", "log.format: 'xml' is not a format (one of console, json)"),
    ],
)
def test_unknown_settings_are_refused(level: str, format_: str, message: str) -> None:
    """A wrong level or format names what there is."""
    with pytest.raises(InvalidSettingError) as error:
        configure_logging(level, format_)

    assert str(error.value) == message


@pytest.mark.parametrize(
    ("listen", "expected"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:50051", ("::1", 50051)), ("localhost:0", ("localhost", 0))],
)
def test_addresses_to_listen_on(listen: str, expected: tuple[str, int]) -> None:
    """HOST:PORT, an IPv6 host in brackets."""
    assert parse_listen(listen, "listen") == expected


@pytest.mark.parametrize("listen", ["", "80", ":80", "host", "host:", "host:x", "host:65536", "host:-1", "host:\u0663"])
def test_what_is_no_address(listen: str) -> None:
    """Anything else is refused, with an example of what would be right."""
    with pytest.raises(InvalidSettingError, match="HOST:PORT, as in"):
        parse_listen(listen, "listen")


def test_metrics_are_served_while_the_context_lasts() -> None:
    """A scrape is answered, and afterwards neither thread nor port is left."""
    registry = CollectorRegistry()
    registry.register(FreshnessCollector(lambda: [("SIM", 12.5)], list))
    before = threading.active_count()
    with serve_metrics("127.0.0.1:0", registry) as port:
        body = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
        with (
            pytest.raises(InvalidSettingError, match=f"metrics.listen: cannot listen on 127.0.0.1:{port}"),
            serve_metrics(f"127.0.0.1:{port}", registry),
        ):
            pass
    with serve_metrics(f"127.0.0.1:{port}", registry) as again:
        assert again == port

    assert 'tickwatch_exchange_newest_point_age_seconds{exchange="SIM"} 12.5' in body
    assert threading.active_count() <= before


def test_servers_of_one_process_share_their_rpc_metrics() -> None:
    """Two servers on one registry count into the same families instead of clashing."""
    registry = CollectorRegistry()

    assert rpc_metrics(registry) is rpc_metrics(registry)
    assert rpc_metrics(registry) is not rpc_metrics(CollectorRegistry())
