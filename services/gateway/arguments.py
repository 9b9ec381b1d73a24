"""What may stand in an address, as types that FastAPI reads, checks and documents.

They check the form alone. What the form cannot say (a metric that exists, a start before the end) is the services' to
refuse, with the same words for every caller.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal

from fastapi import Header, Path, Query
from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

from services.core import names
from services.core.model import EARLIEST, LATEST, Measure, slot_time
from services.core.numbers import whole

_DURATION = r"^[1-9][0-9]{0,6}[smhd]$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_LONGEST_SHOWN = 80

METRIC_NAME = rf"^{names.METRIC}$"
_EXCHANGE = rf"^{names.EXCHANGE}$"
_NAME_OR_GLOB = rf"^({names.METRIC}|{names.METRIC_GLOB})$"
RULE_NAME = rf"^{names.RULE}$"
SILENCE_ID = rf"^{names.ID}$"
_CURSOR = r"^[!-~]+$"

FORMS = {
    METRIC_NAME: "EXCHANGE:PAIR in capitals, such as KRAKEN:BTCUSD",
    _EXCHANGE: "an exchange in capitals, such as KRAKEN",
    _NAME_OR_GLOB: "a metric such as KRAKEN:BTCUSD, or a glob such as KRAKEN:*",
    RULE_NAME: names.RULE_FORM,
    SILENCE_ID: "the id of a silence, 16 hexadecimal digits",
    _CURSOR: "the id of an event, or no cursor at all",
}
"""What a text of each pattern looks like, for whoever has sent another."""


def shown(value: object) -> str:
    """Return a value as errors repeat it: whole, unless it is very long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _duration(value: object) -> dt.timedelta:
    if not isinstance(value, str) or not re.fullmatch(_DURATION[1:-1], value):
        raise ValueError(f"{shown(value)} is not a duration such as 60s, 5m, 6h or 1d")
    return dt.timedelta(seconds=int(value[:-1]) * _UNITS[value[-1]])


def _time(value: object) -> dt.datetime:
    text = value.upper() if isinstance(value, str) else ""  # RFC 3339 allows for t and z
    if not _TIME.fullmatch(text):
        if _TIME.fullmatch(text.replace(" ", "+")):
            raise ValueError(f"{shown(value)} is not a time: in an address the + of +01:00 is written %2B")
        raise ValueError(f"{shown(value)} is not a time such as 2026-11-24T12:00:00Z")
    try:
        moment = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{shown(value)} is not a time such as 2026-11-24T12:00:00Z") from None
    if not slot_time(EARLIEST) <= moment <= slot_time(LATEST):
        raise ValueError(f"{shown(value)} does not lie between 1970 and 2100")
    return moment


def _whole(value: object) -> object:
    if isinstance(value, str) and whole(value) is None:
        raise ValueError(f"{shown(value)} is not a whole number such as 10")
    return value


WHOLE = BeforeValidator(_whole)
"""Of a whole number in an address, behind its bounds: it is written in the digits 0 to 9."""

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
    str,
    Path(description="EXCHANGE:PAIR.", pattern=METRIC_NAME, openapi_examples={"bitcoin": {"value": "KRAKEN:BTCUSD"}}),
]
MeasureName = Annotated[Measure, Path(description="What is measured.", openapi_examples={"p": {"value": "price"}})]
StartTime = Annotated[Time | None, Query(description="The first minute. Left out: 24 hours before the end.")]
EndTime = Annotated[Time | None, Query(description="The minute after the last. Left out: the end of the newest.")]

ExchangeName = Annotated[str | None, Query(description="Only this exchange's, such as KRAKEN.", pattern=_EXCHANGE)]
SilenceId = Annotated[str, Path(description="A silence's id.", pattern=SILENCE_ID)]

RuleNames = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=RULE_NAME)], ...],
    Query(description="Only these rules, by name.", max_length=100),
]
MetricNames = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=_NAME_OR_GLOB)], ...],
    Query(description="Only these metrics, by name or by glob, as in KRAKEN:*.", max_length=1000),
]
MinSeverity = Annotated[
    Literal["info", "warning", "critical"] | None, Query(description="Only this severity and above.")
]
Delivery = Annotated[
    Literal["every_breach", "episodes"] | None,
    Query(description="Every point that broke a rule (if left out), or only what changes an episode."),
]
Cursor = Annotated[
    str | None,
    Query(description="Go on after the event that had this id.", max_length=200, pattern=_CURSOR),
]
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="As `cursor`, from browsers, and instead of it.", max_length=200),
]
PlainMetricNames = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=METRIC_NAME)], ...],
    Query(description="Only these metrics, by name.", max_length=1000),
]
