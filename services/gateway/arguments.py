"""What may stand in an address, as types that FastAPI reads, checks and documents.

They check the form alone. What the form cannot say (a metric that exists, a start before the end) is the services' to
refuse, with the same words for every caller.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated

from fastapi import Path, Query
from pydantic import BeforeValidator, WithJsonSchema

from services.core.model import EARLIEST, LATEST, Measure, slot_time

_DURATION = r"^[1-9][0-9]{0,6}[smhd]$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_NAME = r"^[A-Z0-9][A-Z0-9_-]{0,31}:[A-Z0-9][A-Z0-9._-]{0,31}$"


def _duration(value: object) -> dt.timedelta:
    if not isinstance(value, str) or not re.fullmatch(_DURATION[1:-1], value):
        raise ValueError(f"{value!r} is not a duration such as 60s, 5m, 6h or 1d")
    return dt.timedelta(seconds=int(value[:-1]) * _UNITS[value[-1]])


def _time(value: object) -> dt.datetime:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError(f"{value!r} is not a time such as 2026-11-24T12:00:00Z")
    try:
        moment = dt.datetime.fromisoformat(value).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a time such as 2026-11-24T12:00:00Z") from None
    if not slot_time(EARLIEST) <= moment <= slot_time(LATEST):
        raise ValueError(f"{value!r} does not lie between 1970 and 2100")
    return moment


Duration = Annotated[
    dt.timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["5m"]}),
]
"""So many seconds, minutes, hours or days: 60s, 5m, 6h, 1d."""

Time = Annotated[
    dt.datetime,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-24T12:00:00Z"]}),
]
"""RFC 3339, the seconds may be left out."""

MetricName = Annotated[
    str, Path(description="EXCHANGE:PAIR.", pattern=_NAME, openapi_examples={"bitcoin": {"value": "KRAKEN:BTCUSD"}})
]
MeasureName = Annotated[Measure, Path(description="What is measured.", openapi_examples={"p": {"value": "price"}})]
StartTime = Annotated[Time | None, Query(description="The first minute. Left out: 24 hours before the end.")]
EndTime = Annotated[Time | None, Query(description="The minute after the last. Left out: the end of the newest.")]
