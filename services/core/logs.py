"""The logs of a process: lines on standard error, for people or for machines."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from services.core.errors import InvalidSettingError

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("console", "json")

_CONSOLE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str = "info", format: str = "console") -> None:  # noqa: A002 - the setting's own name
    """Send the logs of the process to stderr, in place of any earlier configuration.

    `format` is `console` for people or `json` for machines: one object a line with `timestamp` (RFC 3339, UTC),
    `level`, `logger`, `message`, an exception as `exc_info`, and what the caller put in `extra`. Raises
    InvalidSettingError for another level or format.
    """
    if level not in LEVELS:
        raise InvalidSettingError("log.level", f"{level!r} is not a level", f"one of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise InvalidSettingError("log.format", f"{format!r} is not a format", f"one of {', '.join(FORMATS)}")
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        fields = {"levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter("%(levelname)s %(name)s %(message)s", rename_fields=fields, timestamp=True))
    else:
        handler.setFormatter(logging.Formatter(_CONSOLE))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
