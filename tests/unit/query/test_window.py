"""The hot window against a dictionary that remembers everything."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.model import DAY_SLOTS, MEASURES, Measure, Points, Quality, Series, Slot, Window, WindowColumns
from services.query.rows import HOT_SLOTS, RING_SLOTS
from services.query.window import HotWindow

START = 1_000_000
SERIES = [Series(f"SIM:{name}", measure) for name in ("A", "B", "C") for measure in MEASURES[:2]]


def loaded(head: int = START) -> HotWindow:
    """Return an empty window that begins at `head`."""
    window = HotWindow()
    window.clear(Slot(head), Slot(head - HOT_SLOTS + 1))
    window.finish_filling()
    return window


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1, 2, 30, 700, 1440, 1536, 4000]),  # how far the newest slot moves on
        st.lists(
            st.tuples(st.sampled_from(SERIES), st.integers(0, 1700), st.integers(-9, 9), st.sampled_from(Quality)),
            min_size=1,
            max_size=12,
        ),
    ),
    max_size=12,
)


@given(STEPS)
def test_ring_equals_a_dictionary(steps: list[tuple[int, list[tuple[Series, int, int, Quality]]]]) -> None:
    """Whatever is written, late, again or after a leap, the ring holds the last 1536 slots of it and nothing else."""
    window, model, head = loaded(), {}, START
    for ahead, points in steps:
        now = head + ahead
        rows = [(series, now - back, float(value), quality) for series, back, value, quality in points]
        window.apply(Points.of(rows))
        model |= {(series, slot): (value, quality) for series, slot, value, quality in rows}
        head = max(head, *(slot for _, slot, _, _ in rows))

    assert window.head == head
    seen = Window(Slot(head - RING_SLOTS - 20), Slot(head + 20))
    for series in SERIES:
        values, qualities = window.read(series, seen)
        kept = {
            slot: worth for (one, slot), worth in model.items() if one == series and head - RING_SLOTS < slot <= head
        }
        expected = [kept.get(slot, (np.nan, 0)) for slot in range(seen.start, seen.end)]
        np.testing.assert_array_equal(values, [value for value, _ in expected])
        np.testing.assert_array_equal(qualities, [quality for _, quality in expected])


@given(STEPS, st.integers(1, 1440), st.integers(0, 90))
def test_scans_and_summaries_say_what_rows_say(
    steps: list[tuple[int, list[tuple[Series, int, int, Quality]]]], length: int, back: int
) -> None:
    """All rows at once are the rows one by one; counts and newest points are theirs."""
    window, head = loaded(), START
    for ahead, points in steps:
        head += ahead
        window.apply(Points.of((series, head - late, value, quality) for series, late, value, quality in points))
    asked = Window.ending(window.head + 1 - back, length)
    for measure in MEASURES:
        names = window.names(measure)
        rows = [block.copy() for block in window.scan(measure, asked)]
        scanned = np.concatenate([np.empty((0, length)), *rows])
        summaries = window.summarise(measure, asked)

        assert list(summaries.names) == sorted(names)
        for row, name in zip(scanned, names, strict=True):
            values, _ = window.read(Series(name, measure), asked)
            np.testing.assert_array_equal(row, values)
            at = summaries.names.index(name)
            present = np.flatnonzero(~np.isnan(values))
            assert summaries.counts[at] == len(present)
            if len(present):
                assert summaries.last_slots[at] == asked.start + present[-1]
                assert summaries.last_values[at] == values[present[-1]]


def columns(window: Window, series: list[Series], seed: int = 0) -> WindowColumns:
    """Return a stretch of random points with holes."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(len(series), len(window)))
    values[random.random(values.shape) < 0.2] = np.nan
    return WindowColumns(window, tuple(sorted(series)), values, (~np.isnan(values)).astype(np.uint8))


def test_filling_in_stretches_is_filling_at_once() -> None:
    """A window filled stretch by stretch, with series that appear later, holds what the stretches held."""
    head = START + 7
    window = HotWindow()
    window.clear(Slot(head), Slot(head - HOT_SLOTS + 1))
    stretches = [
        columns(Window(Slot(head - 1499), Slot(head - 800)), SERIES[:3], 1),
        columns(Window(Slot(head - 800), Slot(head - 60)), SERIES[1:], 2),
        columns(Window(Slot(head - 60), Slot(head + 1)), SERIES[4:], 3),
    ]
    for stretch in stretches:
        window.fill(stretch)
    window.finish_filling()

    for stretch in stretches:
        for row, series in enumerate(stretch.series):
            values, qualities = window.read(series, stretch.window)
            np.testing.assert_array_equal(values, stretch.values[row])
            np.testing.assert_array_equal(qualities, stretch.qualities[row])
    assert np.isnan(window.read(SERIES[5], stretches[0].window)[0]).all()
    assert window.covered_from == head - 1499
    assert window.newest_by_exchange["SIM"] == head


@pytest.mark.parametrize(("at_once", "later"), [(3, 0), (1000, 0), (1000, 1), (100, 1000), (1, 40)])
def test_memory_keeps_its_bound(at_once: int, later: int) -> None:
    """The rings take at most 1.5 x series x 1500 x 8 bytes, however the series came."""
    window = loaded()
    window.apply(
        Points.of((Series(f"SIM:N{n}", m), START, 1.0, Quality.OBSERVED) for n in range(at_once) for m in MEASURES)
    )
    for n in range(later):
        window.apply(Points.of((Series(f"SIM:L{n}", m), START, 1.0, Quality.OBSERVED) for m in MEASURES))

    assert window.series_count == (at_once + later) * len(MEASURES)
    assert window.size_bytes <= 1.5 * window.series_count * 1500 * 8


def test_version_changes_with_every_batch() -> None:
    """Points change the version, even where they are too old for the ring: the store's answers have changed."""
    window = loaded()
    versions = [window.version]
    for slot in (START, START, START - 20 * DAY_SLOTS):
        window.apply(Points.of([(SERIES[0], slot, 1.0, Quality.OBSERVED)]))
        versions.append(window.version)
    window.apply(Points.of([]))

    assert len(set(versions)) == 4
    assert window.version == versions[-1]


def test_consistent_work_sees_one_version() -> None:
    """Work during which the window changed is done again, and at last under the lock."""
    window, seen = loaded(), []

    def work() -> int:
        before = window.version
        seen.append(before)
        if len(seen) < 3:
            window.apply(Points.of([(SERIES[0], START, 1.0, Quality.OBSERVED)]))
        return before

    assert window.consistent(work) == window.version
    assert len(seen) == 3


def test_another_measure_has_other_rows() -> None:
    """Writing one measure gives no row to another."""
    window = loaded()
    window.apply(Points.of([(Series("SIM:A", Measure.PRICE), START, 1.0, Quality.OBSERVED)]))

    assert window.names(Measure.PRICE) == ["SIM:A"]
    assert window.names(Measure.VOLUME) == []
    assert window.metrics == {"SIM:A"}


def test_readers_never_see_half_a_batch() -> None:
    """While a writer replaces every row again and again, a scan sees each slot as one batch wrote it."""
    window = loaded()
    metrics = [Series(f"SIM:N{number:03d}", Measure.PRICE) for number in range(300)]
    stop = threading.Event()

    def write() -> None:
        value = 0.0
        while not stop.is_set():
            value += 1
            window.apply(Points.of((series, START, value, Quality.OBSERVED) for series in metrics))

    window.apply(Points.of((series, START, 0.0, Quality.OBSERVED) for series in metrics))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        asked = Window(Slot(START), Slot(START + 1))
        scans = [
            window.consistent(lambda: np.concatenate([rows.copy() for rows in window.scan(Measure.PRICE, asked)]))
            for _ in range(200)
        ]
    finally:
        stop.set()
        writer.join()

    assert all(len(np.unique(scan)) == 1 for scan in scans)
