"""Numbers of an exchange's answers, checked: what all readers of bodies share. It knows no exchange's format."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.core.errors import ExchangeMalformedError
from services.core.model import SLOT_SECONDS, Slot


@dataclass(frozen=True, slots=True)
class Numbers:
    """Reads numbers of one exchange; `what` and `pair` say in an error which one it was.

    Every method raises ExchangeMalformedError for what is no finite number, or none of its kind.
    """

    exchange: str

    def price(self, value: object, what: str, pair: str) -> float:
        """Return a price: above 0."""
        number = self._number(value, what, pair)
        if number <= 0:
            raise self.malformed(f"{what} is {number:g}, not above 0", pair)
        return number

    def volume(self, value: object, what: str, pair: str) -> float:
        """Return a volume: not negative."""
        number = self._number(value, what, pair)
        if number < 0:
            raise self.malformed(f"{what} is {number:g}, negative", pair)
        return number

    def slot(self, seconds: object, pair: str) -> Slot:
        """Return the minute that begins at a time in seconds since 1970."""
        if type(seconds) is not int or seconds < 0 or seconds % SLOT_SECONDS:
            raise self.malformed(f"a candle's time is {seconds!r:.40}, not the begin of a minute", pair)
        return Slot(seconds // SLOT_SECONDS)

    def malformed(self, words: str, pair: str | None = None) -> ExchangeMalformedError:
        """Return the error of an answer that is not in its format."""
        return ExchangeMalformedError(self.exchange, words, pair)

    def _number(self, value: object, what: str, pair: str) -> float:
        # JSON's numbers come as text but for the whole ones; see JsonApi.get.
        try:
            number = float(value) if isinstance(value, str) or type(value) is int else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.malformed(f"{what} is {value!r:.40}, not a number", pair)
        return number
