"""Between the wire's types and the domain's: `from_wire_x` checks and names what it refuses, `to_wire_x` cannot fail.

Only what several services share; a servicer composes its own messages of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from tickwatch.v1 import query_pb2 as wire

from services.core.errors import InvalidInputError
from services.core.model import EARLIEST, LATEST, SLOT_SECONDS, Floats, Measure, Quality, Slot, Window

_Choice = TypeVar("_Choice")
_TMessage = TypeVar("_TMessage", bound=Message)

_NANOS = 1_000_000_000
_LENGTH_DELIMITED = 2
_ONE_BYTE = tuple(bytes((number,)) for number in range(0x80))

MEASURE_TO_WIRE: dict[Measure, wire.Measure.ValueType] = {
    Measure.PRICE: wire.MEASURE_PRICE,
    Measure.VOLUME: wire.MEASURE_VOLUME,
    Measure.CHANGE_ABSOLUTE: wire.MEASURE_CHANGE_ABSOLUTE,
    Measure.CHANGE_PERCENTAGE: wire.MEASURE_CHANGE_PERCENTAGE,
    Measure.VOLUME_1M: wire.MEASURE_VOLUME_1M,
}
MEASURE_FROM_WIRE: dict[int, Measure] = {number: measure for measure, number in MEASURE_TO_WIRE.items()}

QUALITY_TO_WIRE: dict[int, wire.Quality.ValueType] = {
    Quality.OBSERVED: wire.QUALITY_OBSERVED,
    Quality.BACKFILLED: wire.QUALITY_BACKFILLED,
}


def from_wire_message(kind: type[_TMessage], request: bytes) -> _TMessage:
    """Parse a request; raise InvalidInputError naming `request` for bytes that are not one."""
    try:
        return kind.FromString(request)
    except DecodeError as error:
        raise InvalidInputError(
            "request", f"is not a {kind.DESCRIPTOR.full_name}", "see the service's proto"
        ) from error


def from_wire_measure(number: int, field: str = "measure") -> Measure:
    """Return the measure; raise InvalidInputError for the unspecified and for one unknown to this version."""
    if (measure := MEASURE_FROM_WIRE.get(number)) is not None:
        return measure
    known = ", ".join(wire.Measure.Name(value) for value in MEASURE_TO_WIRE.values())
    raise InvalidInputError(field, f"{number} is not a measure" if number else "is required", f"one of {known}")


def from_wire_choice(choices: Mapping[int, _Choice], number: int, field: str, name: Callable[..., str]) -> _Choice:
    """Return what an enum's number stands for; raise InvalidInputError, listing their names, for an unknown one."""
    if number in choices:
        return choices[number]
    known = ", ".join(name(value) for value in choices if value)
    raise InvalidInputError(field, f"{number} is not one of this version's", f"one of {known}")


def from_wire_time(time: Timestamp, field: str) -> Slot:
    """Return the slot that starts at a time.

    Raises InvalidInputError for a time that is not a whole minute, is no Timestamp at all or lies outside
    [EARLIEST, LATEST].
    """
    if not 0 <= time.nanos < _NANOS:
        raise InvalidInputError(field, f"has {time.nanos} nanos", "nanos from 0 to 999999999")
    slot = time.seconds // SLOT_SECONDS
    if not EARLIEST <= slot <= LATEST:
        raise InvalidInputError(
            field, f"{time.seconds} s since 1970 is outside 1970 to 2100", "a time in seconds since 1970, in UTC"
        )
    if time.nanos or time.seconds % SLOT_SECONDS:
        raise InvalidInputError(
            field, f"{time.ToJsonString()} is not a whole minute", f"{to_wire_time(Slot(slot)).ToJsonString()}, for one"
        )
    return Slot(slot)


def from_wire_slots(duration: Duration, field: str, least: int, most: int) -> int:
    """Return the number of slots that a duration spans; raise InvalidInputError if not whole or outside the bounds."""
    whole = not duration.nanos and duration.seconds % SLOT_SECONDS == 0
    slots = duration.seconds // SLOT_SECONDS
    if not whole or not least <= slots <= most:
        given = f"{duration.seconds + duration.nanos / _NANOS:g} s"
        problem = "is not a whole number of minutes" if not whole else f"is outside {least} to {most} minutes"
        raise InvalidInputError(field, f"{given} {problem}", f"whole minutes from {least * 60}s to {most * 60}s")
    return slots


def to_wire_time(slot: int) -> Timestamp:
    """Return the start of a slot."""
    return Timestamp(seconds=slot * SLOT_SECONDS)


def to_wire_moment(seconds: float) -> Timestamp:
    """Return a moment given in seconds since 1970, to the microsecond."""
    moment = Timestamp()
    moment.FromMicroseconds(round(seconds * 1e6))
    return moment


def to_wire_duration(slots: int) -> Duration:
    """Return the length of so many slots."""
    return Duration(seconds=slots * SLOT_SECONDS)


def to_wire_range(window: Window) -> wire.TimeRange:
    """Return a window as a half-open range of times."""
    return wire.TimeRange(start_time=to_wire_time(window.start), end_time=to_wire_time(window.end))


def packed_doubles(field_number: int, values: Floats) -> bytes:
    """Encode a `repeated double` field: its packed form is the array's own memory, so building a list is saved.

    Format: https://protobuf.dev/programming-guides/encoding/#packed. The bytes may be appended to any message's.
    """
    if not len(values):
        return b""
    body = values.astype("<f8", copy=False).tobytes()
    return varint(field_number << 3 | _LENGTH_DELIMITED) + varint(len(body)) + body


def varint(number: int) -> bytes:
    """Encode a number that is not negative as protobuf's base-128 varint."""
    if number < len(_ONE_BYTE):  # nearly all of them are lengths
        return _ONE_BYTE[number]
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
