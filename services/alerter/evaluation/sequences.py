"""Rows of points, as rules count them: slot by slot, but short gaps left out.

A sequence holds, of one series, the levels of its points one after another, and NaN for the slots in which it is gone,
because those break a row. Where there is no gap at all, a place in it is a slot. Slots count from the first of the
stretch. It knows nothing of episodes.
"""

from __future__ import annotations

import numpy as np

from services.alerter.evaluation.runs import WORD_BITS
from services.alerter.evaluation.states import Counts, Flags, Places
from services.core.model import Floats

AHEAD = WORD_BITS
"""How many levels are looked at together: most episodes end within them."""

NEVER = 2**62
"""A slot that does not come."""


class Sequences:
    """The sequences of every series of a stretch.

    `levels` are of the series end to end, and AHEAD more; the others, of shape (series, slots), say where a series has
    a point, one that could be judged, and where it is gone; None where there is no gap.
    """

    def __init__(
        self, levels: Floats, slot_count: int, present: Flags | None, judged: Flags | None, gone: Flags | None
    ) -> None:
        self._slot_count = slot_count
        series_count = (len(levels) - AHEAD) // slot_count
        self._starts: Places = np.arange(series_count + 1) * slot_count
        self._gone = gone
        self._judged = None if judged is None else np.append(np.flatnonzero(judged), NEVER)
        self._keys: Places | None = None
        if present is not None and gone is not None:
            # A key is series * slot_count + slot, ascending through the whole stretch.
            counted = present | gone
            keys = np.flatnonzero(counted)
            levels = levels[np.append(keys, np.arange(len(levels) - AHEAD, len(levels)))]
            self._keys = np.append(keys, NEVER)
            self._starts = np.append(0, np.cumsum(np.count_nonzero(counted, axis=1)))
        # Element i is the AHEAD levels from place i on in one piece, which numpy fetches in half the time of so many.
        self._ahead = np.ndarray(len(levels) - AHEAD + 1, f"V{AHEAD * levels.itemsize}", levels, 0, levels.strides)
        self.lengths: Counts = np.diff(self._starts)
        """How long the sequence of each series is."""

    def ahead(self, series: Places, places: Places) -> Floats:
        """Return the AHEAD levels from each place on; those beyond the end of a sequence mean nothing."""
        levels: Floats = self._ahead[self._starts[series] + places].view(np.float64).reshape(-1, AHEAD)
        return levels

    def slots(self, series: Places, places: Places) -> Places:
        """Return the slots at these places; both of one shape, or of shapes that fit."""
        if self._keys is None:
            return places
        slots: Places = self._keys[self._starts[series] + places] - series * self._slot_count
        return slots

    def places(self, series: Places, slots: Places) -> Places:
        """Return the first places at or after these slots; the length where there is none."""
        if self._keys is None:
            return slots
        places: Places = np.searchsorted(self._keys, series * self._slot_count + slots) - self._starts[series]
        return np.minimum(places, self.lengths[series])

    def judged_from(self, series: Places, slots: Places) -> Places:
        """Return the first slots at or after these that have a point which could be judged, or NEVER."""
        keys = series * self._slot_count + np.minimum(slots, self._slot_count)
        if self._judged is not None:
            keys = self._judged[np.searchsorted(self._judged, keys)]
        result: Places = np.where(keys < (series + 1) * self._slot_count, keys - series * self._slot_count, NEVER)
        return result

    def ends_gone(self, series: Places) -> Flags:
        """Whether the sequence of each series, which is not empty, ends with a slot in which it is gone."""
        if self._gone is None:
            return np.zeros(len(series), np.bool_)
        return self._gone[series, self.slots(series, self.lengths[series] - 1)]
