"""What every backend's log of breaches checks alike before it writes. It knows no backend."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

from services.core.breaches import Checkpoint, LogEntry, Position
from services.core.errors import CursorExpiredError, InvalidInputError, LogMovedError
from services.core.model import slot_time

LONGEST_TEXT = 1_000_000
"""Of a document, in characters."""

LONGEST_STATE = 50_000_000
"""Of a checkpoint: an open episode takes about 700 characters, and in a crash every series of a market may have one."""

_NAME = re.compile(r"[\x21-\x7e]{1,200}")


def check_append(expected: Position | None, entries: Sequence[LogEntry], checkpoint: Checkpoint) -> None:
    """Raise ValueError for an append that breaks the interface's rules: a defect of the caller's."""
    places = [entry.position for entry in entries]
    ordered = all(one < other for one, other in itertools.pairwise(places))
    if not ordered or (places and (places[-1] >= checkpoint.end or (expected is not None and places[0] < expected))):
        raise ValueError(f"entries at {places[:3]}… do not lie between {expected} and {checkpoint.end}")
    if expected is not None and checkpoint.end < expected:
        raise ValueError(f"a log does not go back from {expected} to {checkpoint.end}")
    _check_text("checkpoint", checkpoint.state, LONGEST_STATE)


def check_document(kind: str, key: str, text: str | None) -> None:
    """Raise InvalidInputError for a name or a text that no backend keeps."""
    for field, name in (("kind", kind), ("key", key)):
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                field, f"{name[:40]!r} cannot be a name", "1 to 200 printable ASCII characters, no spaces"
            )
    if text is not None:
        _check_text("text", text, LONGEST_TEXT)


def _check_text(field: str, text: str, longest: int) -> None:
    if not 0 < len(text) <= longest:
        raise InvalidInputError(field, f"{len(text)} characters", f"1 to {longest}")


def check_end(present: Checkpoint | None, expected: Position | None, checkpoint: Checkpoint) -> bool:
    """Return whether an append is still to be done; False where it is done already.

    Raises LogMovedError where the log ends elsewhere: also where somebody else has led it to the same end, for what he
    has appended is not what was to be.
    """
    if present == checkpoint:
        return False
    end = present.end if present else None
    if end == expected:
        return True
    raise LogMovedError(f"the log ends at {_shown(end)} and not at {_shown(expected)}")


def check_allowed(allowed: Callable[[], bool]) -> None:
    """Raise LogMovedError where nothing may be written any more."""
    if not allowed():
        raise LogMovedError("another may append by now")


def check_position(position: Position, earliest: Position) -> None:
    """Raise CursorExpiredError for a place that is no longer kept."""
    if position < earliest:
        raise CursorExpiredError(f"the log begins at {_shown(earliest)}")


def _shown(position: Position | None) -> str:
    return "nothing" if position is None else f"{slot_time(position.slot):%Y-%m-%dT%H:%MZ}+{position.ordinal}"
