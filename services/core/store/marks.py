"""How marks are written: the kind of store, which store of that kind, and a number whose meaning is the backend's own.

Every backend reads marks here, so that a forged one gets the same answer from all of them.
"""

from __future__ import annotations

import re

from services.core.errors import CursorExpiredError, InvalidCursorError
from services.core.store.base import Mark

_FORM = re.compile(r"([a-z]+\.[0-9a-f]+)\.([0-9]{1,18})", re.ASCII)


def make_mark(store: str, number: int) -> Mark:
    """Return the mark of this store, named KIND.IDENTITY (hexadecimal), at this place in its order."""
    return Mark(f"{store}.{number}")


def place_of(mark: Mark, store: str) -> int:
    """Return the place in this store's order; raise InvalidCursorError for what it cannot have issued."""
    matched = _FORM.fullmatch(mark[:200])
    if matched is None or matched[1] != store:
        raise InvalidCursorError(f"{mark[:80]!r} is not a mark of this store")
    return int(matched[2])


def forged(mark: Mark) -> InvalidCursorError:
    """Return the error for a well-formed mark of a place that the order has not reached."""
    return InvalidCursorError(f"{mark[:80]!r} lies ahead of everything that was written to this store")


def expired() -> CursorExpiredError:
    """Return the error for a mark whose successors are forgotten."""
    return CursorExpiredError("a store remembers its write order for a day, and this mark is older")
