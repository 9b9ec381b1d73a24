"""Blocks hold what points said: nothing moves to another slot, the later of two counts, and stored points stay."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.model import Floats, Measure, Points, Qualities, Quality, Series, Slot, Slots, Window
from services.core.store.sqlite import blocks

SERIES = [Series(name, Measure.PRICE) for name in ("A:X", "A:Y", "B:X")]
NUMBERS = np.array([7, 1, 2**31 - 1], np.int64)
FIRST_SLOT = 470_000 * 60

Row = tuple[Series, int, float, Quality]

values = st.floats(allow_nan=False, allow_infinity=False)
slots = st.integers(FIRST_SLOT, FIRST_SLOT + 200)
rows = st.lists(st.tuples(st.sampled_from(SERIES), slots, values, st.sampled_from(Quality)), min_size=1, max_size=60)
windows = st.tuples(st.integers(FIRST_SLOT - 70, FIRST_SLOT + 270), st.integers(0, 300)).map(
    lambda place: Window(Slot(place[0]), Slot(place[0] + place[1]))
)


def points_of(rows: list[Row]) -> Points:
    """Points whose series stand in the order of NUMBERS."""
    columns = list(zip(*rows, strict=True))
    return Points(
        tuple(SERIES),
        np.array([SERIES.index(series) for series in columns[0]], np.int32),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        np.array(columns[3], np.uint8),
    )


def gathered(rows: list[Row]) -> blocks.Blocks:
    """The rows as blocks."""
    return blocks.gather(points_of(rows), NUMBERS)


def content(of: blocks.Blocks) -> dict[tuple[int, int], tuple[float, int]]:
    """What blocks hold: value and quality by the series' number and the slot."""
    found = {}
    for place, offset in zip(*np.nonzero(of.qualities), strict=True):
        key = of.keys[[place]]
        number, slot = int(blocks.series_of(key)[0]), int(blocks.hours_of(key)[0]) * 60 + int(offset)
        found[number, slot] = float(of.values[place, offset]), int(of.qualities[place, offset])
    return found


def expected(rows: list[Row]) -> dict[tuple[int, int], tuple[float, int]]:
    """The same by plain Python: the later row replaces the earlier."""
    return {(int(NUMBERS[SERIES.index(series)]), slot): (value, int(quality)) for series, slot, value, quality in rows}


@given(rows)
def test_gathering_keeps_the_later_of_two(given_rows: list[Row]) -> None:
    """Blocks hold exactly the points given, in whatever order they come, and of equal ones the last."""
    of = gathered(given_rows)

    assert content(of) == expected(given_rows)
    assert (np.diff(of.keys) > 0).all()
    assert np.isnan(of.values[of.qualities == 0]).all()


@given(rows)
def test_points_in_order_need_no_sort(given_rows: list[Row]) -> None:
    """The path for points that come in order gives the same as that for any order."""
    ascending = sorted(given_rows, key=lambda row: (NUMBERS[SERIES.index(row[0])], row[1]))

    assert content(gathered(ascending)) == expected(ascending)


def test_a_series_that_stands_twice_is_one() -> None:
    """Two places of one number are one series: the later point counts."""
    points = Points(
        (SERIES[0], SERIES[0]),
        np.array([1, 0], np.int32),
        np.array([FIRST_SLOT, FIRST_SLOT], np.int64),
        np.array([1.0, 2.0]),
        np.array([1, 2], np.uint8),
    )

    assert content(blocks.gather(points, np.array([7, 7], np.int64))) == {(7, FIRST_SLOT): (2.0, 2)}


@given(rows)
def test_packing_is_undone_by_unpacking(given_rows: list[Row]) -> None:
    """Every value comes back bit by bit, the sign of zero too, and every quality."""
    of = gathered(given_rows)
    packed = of.pack()

    unpacked, qualities = blocks.unpack(packed)
    assert [len(block) for block in packed] == [blocks.BLOCK_BYTES] * len(of.keys)
    assert unpacked.tobytes() == of.values.tobytes()
    np.testing.assert_array_equal(qualities, of.qualities)


def test_a_block_is_laid_out_as_documented() -> None:
    """The file's format, which may not change: 60 little-endian float64, then 60 qualities."""
    rows = [
        (SERIES[0], FIRST_SLOT, 1.5, Quality.OBSERVED),
        (SERIES[0], FIRST_SLOT + 59, -2e-300, Quality.BACKFILLED),
    ]

    (packed,) = gathered(rows).pack()

    assert packed[:8] == struct.pack("<d", 1.5)
    assert packed[59 * 8 : 480] == struct.pack("<d", -2e-300)
    assert packed[480:] == bytes([int(Quality.OBSERVED), *[0] * 58, int(Quality.BACKFILLED)])


def test_nothing_unpacks_to_nothing() -> None:
    """No blocks are two empty columns of 60."""
    unpacked, qualities = blocks.unpack([])

    assert unpacked.shape == qualities.shape == (0, 60)


@pytest.mark.parametrize("number", [1, 2, 2**31 - 1])
@pytest.mark.parametrize("hour", [0, 470_000, 2**31])
def test_a_key_holds_number_and_hour(number: int, hour: int) -> None:
    """Both come back from the key, and keys are ordered by number, then by hour, as the primary key is."""
    key = blocks.key_of(np.array([number]), np.array([hour]))

    assert (blocks.series_of(key).tolist(), blocks.hours_of(key).tolist()) == ([number], [hour])
    assert blocks.key_of(number - 1, 2**32 - 1) < key < blocks.key_of(number, hour + 1)


@given(rows, rows)
def test_overlaying_keeps_what_is_not_written(stored: list[Row], written: list[Row]) -> None:
    """Over stored blocks a written point replaces, and every other stored point of these hours stays."""
    old, new = gathered(stored), gathered(written)
    common = np.isin(old.keys, new.keys)
    keys = set(new.keys.tolist())

    new.overlay_on(old.keys[common], [block for block, kept in zip(old.pack(), common, strict=True) if kept])

    whole = expected(stored) | expected(written)
    assert content(new) == {
        place: point for place, point in whole.items() if int(blocks.key_of(place[0], place[1] // 60)) in keys
    }


@given(rows)
def test_masks_name_the_slots_with_a_point(given_rows: list[Row]) -> None:
    """Bit i of a block's mask says whether its slot i has a point."""
    of = gathered(given_rows)

    named = {
        (int(number), int(hour) * 60 + bit)
        for number, hour, mask in zip(
            blocks.series_of(of.keys), blocks.hours_of(of.keys), of.slot_masks().tolist(), strict=True
        )
        for bit in range(60)
        if mask >> bit & 1
    }
    assert named == set(expected(given_rows))


@given(rows, st.data())
def test_selecting_takes_what_masks_name_and_nothing_old(given_rows: list[Row], data: st.DataObject) -> None:
    """Of the points stored those are taken whose bit is set and that are not older than the oldest kept."""
    of = gathered(given_rows)
    masks = np.array(
        data.draw(st.lists(st.integers(0, 2**60 - 1), min_size=len(of.keys), max_size=len(of.keys))), np.int64
    )
    oldest = data.draw(slots)
    mask_of = dict(zip(of.keys.tolist(), masks.tolist(), strict=True))

    places, at, found, qualities = blocks.select(of, masks, oldest)

    numbers = blocks.series_of(of.keys)[places]
    selected = dict(
        zip(
            zip(numbers.tolist(), at.tolist(), strict=True),
            zip(found.tolist(), qualities.tolist(), strict=True),
            strict=True,
        )
    )
    assert len(selected) == len(at)
    assert selected == {
        (number, slot): point
        for (number, slot), point in expected(given_rows).items()
        if slot >= oldest and mask_of[int(blocks.key_of(number, slot // 60))] >> slot % 60 & 1
    }


def spread_out(of: blocks.Blocks, window: Window) -> tuple[Floats, Qualities]:
    """The blocks that touch the window as dense columns, a row a series of NUMBERS, as the store reads them."""
    columns = np.full((3, len(window)), np.nan), np.zeros((3, len(window)), np.uint8)
    hours: Slots = blocks.hours_of(of.keys)
    touching = (hours * 60 < window.end) & (hours * 60 + 60 > window.start)
    row_of = {int(number): row for row, number in enumerate(NUMBERS)}
    rows = np.array([row_of[number] for number in blocks.series_of(of.keys[touching]).tolist()], np.int64)
    blocks.spread(rows, hours[touching], (of.values[touching], of.qualities[touching]), window, columns)
    return columns


@given(rows, windows)
def test_spreading_fills_any_window(given_rows: list[Row], window: Window) -> None:
    """Each point of the window stands in its series' row at its slot, nothing else does, however ragged the ends."""
    columns = spread_out(gathered(given_rows), window)

    wanted = np.full((3, len(window)), np.nan), np.zeros((3, len(window)), np.uint8)
    for series, slot, value, quality in given_rows:
        if slot in window:
            place = SERIES.index(series), slot - window.start
            wanted[0][place], wanted[1][place] = value, quality
    np.testing.assert_array_equal(columns[0], wanted[0])
    np.testing.assert_array_equal(columns[1], wanted[1])


@pytest.mark.parametrize(
    ("start", "end"), [(0, 60), (0, 180), (1, 179), (59, 61), (60, 60), (10, 20), (30, 150), (119, 180), (1, 60)]
)
def test_spreading_at_ragged_ends(start: int, end: int) -> None:
    """Three whole hours come out slot by slot, wherever the window begins and ends among them."""
    window = Window(Slot(FIRST_SLOT + start), Slot(FIRST_SLOT + end))
    whole = [(SERIES[0], FIRST_SLOT + number, float(number), Quality.OBSERVED) for number in range(180)]

    columns = spread_out(gathered(whole), window)

    assert columns[0][0].tolist() == list(range(start, end))
    assert columns[1].tolist() == [[1] * (end - start), [0] * (end - start), [0] * (end - start)]


def test_spreading_writes_through_views() -> None:
    """The columns may be a part of wider ones, as where only some of a window is kept."""
    wide = np.full((3, 200), np.nan), np.zeros((3, 200), np.uint8)
    of = gathered([(SERIES[1], FIRST_SLOT + number, 5.0, Quality.OBSERVED) for number in range(120)])
    window = Window(Slot(FIRST_SLOT), Slot(FIRST_SLOT + 120))

    blocks.spread(
        np.array([1, 1]),
        blocks.hours_of(of.keys),
        (of.values, of.qualities),
        window,
        (wide[0][:, 40:160], wide[1][:, 40:160]),
    )

    assert np.flatnonzero(wide[1][1]).tolist() == list(range(40, 160))
    assert (wide[0][1, 40:160] == 5.0).all()
    assert not wide[1][[0, 2]].any()
