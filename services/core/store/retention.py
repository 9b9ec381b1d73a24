"""How far back a store remembers, and how far ahead it accepts: one reading of the clock shared by every backend.

It knows slots and a clock, and no backend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.core.clock import Clock
from services.core.errors import InvalidInputError
from services.core.model import DAY_SLOTS, Points, Slot, Window, slot_at, slot_time

ORDER_KEPT_SECONDS = 25 * 3600
"""How long the write order is remembered: the day that the interface promises, and an hour for a late clean-up."""


@dataclass(frozen=True, slots=True)
class Retention:
    """So many whole days, counted back from the slot in progress by this clock."""

    days: int
    clock: Clock

    def oldest(self) -> Slot:
        """Return the oldest slot that is kept."""
        return Slot(slot_at(self.clock.now()) - self.days * DAY_SLOTS)

    def newest(self) -> Slot:
        """Return the newest slot that may be written: the one after that in progress, as clocks differ."""
        return Slot(slot_at(self.clock.now()) + 1)

    def check(self, points: Points) -> None:
        """Raise InvalidInputError naming the first point that is too old or too new."""
        oldest, newest = self.oldest(), self.newest()
        wrong = np.flatnonzero((points.slots < oldest) | (points.slots > newest))
        if not len(wrong):
            return
        slot = int(points.slots[wrong[0]])
        metric = points.series[points.series_index[wrong[0]]].metric
        moment = _written(slot)
        if slot < oldest:
            raise InvalidInputError(
                "slot",
                f"{moment} of {metric} is older than the {self.days} days that are kept",
                f"the oldest slot is {_written(oldest)}",
            )
        raise InvalidInputError(
            "slot", f"{moment} of {metric} lies in the future", f"the newest slot is {_written(newest)}"
        )

    def clamp(self, window: Window) -> Window:
        """Return the part of the window that is kept; empty where there is none."""
        start = max(window.start, self.oldest())
        return Window(Slot(start), Slot(max(start, window.end)))


def _written(slot: int) -> str:
    try:
        return f"{slot_time(slot):%Y-%m-%dT%H:%MZ}"
    except (OverflowError, ValueError, OSError):
        return f"slot {slot}"
