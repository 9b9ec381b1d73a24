"""Between arguments and messages: words for enums, datetimes for timestamps, and clear errors for what fits neither."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tickwatch.errors import InvalidInputError
from tickwatch.results import TimeRange
from tickwatch.v1 import query_pb2 as wire

if TYPE_CHECKING:
    import numpy as np

    Time = dt.datetime | np.datetime64

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def wrong(field: str, problem: str, hint: str = "") -> InvalidInputError:
    """Return the error for an argument that never gets as far as the service."""
    message = f"{field}: {problem}" + (f" ({hint})" if hint else "")
    metadata = {"field": field, "problem": problem, "hint": hint}
    return InvalidInputError("INVALID_ARGUMENT", "INVALID_FIELD", message, field=field, metadata=metadata)


def choice(field: str, word: str | None, kind: Any) -> Any:  # noqa: ANN401 - protobuf's enums have no common type
    """Return the number of an enum's value by its own word, such as "price" for MEASURE_PRICE; 0 for None."""
    if word is None:
        return 0
    names = _words(kind)
    if word not in names:
        raise wrong(field, f"{word!r} is not known", f"one of {', '.join(names)}")
    return names[word]


def word_of(number: int, kind: Any) -> str:  # noqa: ANN401 - as above
    """Return an enum's word; a number from a newer service stands for itself."""
    if number not in kind.values():
        return str(number)
    name: str = kind.Name(number)
    return name.removeprefix(_prefix(kind)).lower()


def texts(field: str, given: Iterable[str]) -> list[str]:
    """Return several texts; raises InvalidInputError for one alone, which Python takes for one of each letter."""
    if isinstance(given, str):
        raise wrong(field, f"{given!r} is one text where several are taken", f"[{given!r}]")
    return list(given)


def timestamp(field: str, time: Time | None) -> Timestamp | None:
    """Return a time as a message; raises InvalidInputError for a datetime without a zone, and for what is no time."""
    if time is None:
        return None
    stamp = Timestamp()
    if not isinstance(time, dt.datetime):
        if not hasattr(time, "astype"):
            raise wrong(field, f"{time!r} is no time", "an aware datetime.datetime or a numpy.datetime64 in UTC")
        stamp.FromNanoseconds(int(time.astype("datetime64[us]").astype("int64")) * 1000)
        return stamp
    if time.tzinfo is None:
        raise wrong(field, f"{time} has no time zone", "datetime.datetime(..., tzinfo=datetime.UTC)")
    stamp.FromDatetime(time.astimezone(dt.UTC))
    return stamp


def duration(field: str, span: dt.timedelta | None) -> Duration | None:
    """Return a span as a message; raises InvalidInputError for what is no timedelta, such as "5m"."""
    if span is None:
        return None
    if not isinstance(span, dt.timedelta):
        raise wrong(field, f"{span!r} is no span of time", "datetime.timedelta(minutes=5), for one")
    message = Duration()
    message.FromTimedelta(span)
    return message


def time_of(stamp: Timestamp) -> dt.datetime:
    """Return a message's time, in UTC."""
    # Thrice as fast as ToDatetime, and a history with gaps has hundreds of times.
    return _EPOCH + dt.timedelta(0, stamp.seconds, stamp.nanos // 1000)


def range_of(span: wire.TimeRange) -> TimeRange:
    """Return a message's range."""
    return TimeRange(time_of(span.start_time), time_of(span.end_time))


@functools.cache
def _words(kind: Any) -> dict[str, int]:  # noqa: ANN401 - as above
    """Return an enum's words and their numbers."""
    prefix = _prefix(kind)
    return {name.removeprefix(prefix).lower(): number for name, number in kind.items() if number}


def _prefix(kind: Any) -> str:  # noqa: ANN401 - as above
    """Return what the names of an enum's values begin with: EVENT_KIND_ for EventKind."""
    name: str = kind.DESCRIPTOR.name
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name)[1:] + "_"
