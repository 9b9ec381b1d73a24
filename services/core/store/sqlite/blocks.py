"""Points in blocks of an hour: how SQLite gets a day of a thousand metrics in and out in bulk.

A block is one series in one hour, dense: 60 values as little-endian float64, then 60 qualities as bytes, 540 bytes in
all; quality 0 where there is no point. Row by row, sqlite3 moves about a million points a second in or out; in blocks
it moves sixty at a time, and ten bytes a point lie on the disk. Minute by minute a block is rewritten as the page
around a single row would be.

It knows numpy and the model, and no SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.model import Floats, Indices, Points, Qualities, Slots, Window

HOUR_SLOTS = 60
BLOCK_BYTES = HOUR_SLOTS * 9
_VALUE_BYTES = HOUR_SLOTS * 8
_HOUR_BITS = 32
_SLOT_BITS = np.int64(1) << np.arange(HOUR_SLOTS, dtype=np.int64)

Keys = NDArray[np.int64]
"""A block's key: the number of its series times 2**32 plus its hour since the epoch; ascending as the primary key."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Blocks as columns: `keys` (n), ascending and each once; `values` and `qualities` (n, 60)."""

    keys: Keys
    values: Floats
    qualities: Qualities

    def slot_masks(self) -> Slots:
        """Return for each block which of its slots have a point: bit i for the hour's slot i."""
        masks: Slots = ((self.qualities != 0) * _SLOT_BITS).sum(axis=1)
        return masks

    def overlay_on(self, keys: Keys, packed: Sequence[bytes]) -> None:
        """Fill the slots without a point here from stored blocks, whose keys are all among ours."""
        if not len(keys):
            return
        places = np.searchsorted(self.keys, keys)
        values, qualities = unpack(packed)
        missing = self.qualities[places] == 0
        self.values[places] = np.where(missing, values, self.values[places])
        self.qualities[places] = np.where(missing, qualities, self.qualities[places])

    def pack(self) -> list[bytes]:
        """Return each block as its 540 bytes."""
        packed = np.empty((len(self.keys), BLOCK_BYTES), np.uint8)
        packed[:, :_VALUE_BYTES] = np.ascontiguousarray(self.values, "<f8").view(np.uint8)
        packed[:, _VALUE_BYTES:] = self.qualities
        everything = packed.tobytes()
        return [everything[at : at + BLOCK_BYTES] for at in range(0, len(everything), BLOCK_BYTES)]


def unpack(packed: Sequence[bytes]) -> tuple[Floats, Qualities]:
    """Return the values and qualities of blocks, (n, 60) each."""
    rows = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), BLOCK_BYTES)
    values = np.ascontiguousarray(rows[:, :_VALUE_BYTES]).view("<f8")
    return values.astype(np.float64, copy=False), rows[:, _VALUE_BYTES:]


def key_of(series: Slots | int, hour: Slots | int) -> Keys:
    """Return the key of this series' (by number) block of this hour."""
    return (np.asarray(series, np.int64) << _HOUR_BITS) | np.asarray(hour, np.int64)


def series_of(keys: Keys) -> Slots:
    """Return the numbers of the series."""
    return keys >> _HOUR_BITS


def hours_of(keys: Keys) -> Slots:
    """Return the hours since the epoch."""
    return keys & ((1 << _HOUR_BITS) - 1)


def gather(points: Points, numbers: Slots) -> Blocks:
    """Turn points into blocks; `numbers[i]` is the number of `points.series[i]`. The later of two equal ones counts."""
    hours, offsets = np.divmod(points.slots, HOUR_SLOTS)
    keys = key_of(numbers[points.series_index], hours)
    steps = np.diff(keys)
    if (steps >= 0).all():  # as bulk loads come: no sort needed
        first = np.concatenate([[True], steps > 0])
        unique, places = keys[first], np.cumsum(first) - 1
    else:
        unique, places = np.unique(keys, return_inverse=True)
    values = np.full((len(unique), HOUR_SLOTS), np.nan)
    qualities = np.zeros((len(unique), HOUR_SLOTS), np.uint8)
    values[places, offsets], qualities[places, offsets] = points.values, points.qualities
    return Blocks(unique, values, qualities)


def select(blocks: Blocks, masks: Slots, oldest: int) -> tuple[Indices, Slots, Floats, Qualities]:
    """Return the points of the slots that the masks name, none before `oldest`: block's place, slot, value, quality."""
    wanted = ((masks[:, None] & _SLOT_BITS) != 0) & (blocks.qualities != 0)
    places, offsets = np.nonzero(wanted)
    slots = hours_of(blocks.keys)[places] * HOUR_SLOTS + offsets
    kept = slots >= oldest
    places, offsets, slots = places[kept], offsets[kept], slots[kept]
    return places.astype(np.int32), slots, blocks.values[places, offsets], blocks.qualities[places, offsets]


def spread(
    rows: Slots,
    hours: Slots,
    contents: tuple[Floats, Qualities],
    window: Window,
    into: tuple[Floats, Qualities],
) -> None:
    """Copy blocks into dense columns of shape (series, len(window)): block i goes to row `rows[i]`.

    Whole hours are copied at once, the window's ragged ends hour by hour.
    """
    starts = hours * HOUR_SLOTS - window.start
    whole = (starts >= 0) & (starts + HOUR_SLOTS <= len(window))
    head = -window.start % HOUR_SLOTS
    count = max(0, len(window) - head) // HOUR_SLOTS
    # Not np.unique, whose first call imports numpy.ma: every run of a collector would pay for that.
    ragged = [(start, starts == start) for start in sorted(set(starts[~whole].tolist()))]

    def copy(source: NDArray[Any], target: NDArray[Any]) -> None:
        if count:
            inner = target[:, head : head + count * HOUR_SLOTS].reshape(len(target), count, HOUR_SLOTS, copy=False)
            inner[rows[whole], (starts[whole] - head) // HOUR_SLOTS] = source[whole]
        for start, chosen in ragged:
            low, high = max(0, start), min(len(window), start + HOUR_SLOTS)
            target[rows[chosen], low:high] = source[chosen, low - start : high - start]

    copy(contents[0], into[0])
    copy(contents[1], into[1])
