"""Long work in pieces of seconds, between any two of which it ends where nothing that it finds may be written any more.

The right to evaluate may go while a day of a whole market is read and evaluated. It knows neither work nor right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from services.core.model import Slot, Window

PIECE_SLOTS = 240


class BrokenOffError(Exception):
    """The work ends here: what it would still find could not be written."""


class Pieces:
    """Cuts work into pieces, for as long as `may_write()` says yes."""

    def __init__(self, may_write: Callable[[], bool]) -> None:
        self._may_write = may_write

    def go_on(self) -> None:
        """Between two pieces: raise BrokenOffError where nothing may be written."""
        if not self._may_write():
            raise BrokenOffError

    def of(self, start: int, end: int) -> Iterator[Window]:
        """Cut [start, end) into windows that take little memory and, each, little time; raise as `go_on` does."""
        for first in range(start, end, PIECE_SLOTS):
            self.go_on()
            yield Window(Slot(first), Slot(min(first + PIECE_SLOTS, end)))
