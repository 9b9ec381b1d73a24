"""The follower, stepped by hand, on a store that fails when the test says so."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from services.core.errors import (
    CursorExpiredError,
    InvalidCursorError,
    NotReadyError,
    StoreRefusedError,
    StoreUnavailableError,
)
from services.core.model import DAY_SLOTS, MEASURES, Measure, Points, Quality, Series, Slot, Window
from services.query import following
from services.query.rows import HOT_SLOTS
from tests.support.query import LAST, make_market, make_store, names, record_run, unserved

PRICE = Series("SIM:AAA", Measure.PRICE)


class Fickle:
    """A reader that fails with `error` while one is set, and remembers what it was asked."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.error: Exception | None = None
        self.only: str | None = None
        self.asked: list[str] = []
        self.read: list[tuple[Window, list[Measure]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.asked.append(name)
            if name == "read_window":
                window, measures = (*arguments, MEASURES)[:2]
                self.read.append((window, list(measures)))
            if self.error is not None and self.only in (None, name):
                raise self.error
            return getattr(self.store, name)(*arguments)

        return call


def point(slot: int = LAST, value: float = 1.0, quality: Quality = Quality.OBSERVED) -> Points:
    """Return one point."""
    return Points.of([(PRICE, slot, value, quality)])


def read_slots(reader: Fickle) -> dict[Measure, list[int]]:
    """Return the slots that were asked for, by measure, in ascending order."""
    return {
        measure: sorted(
            slot for window, measures in reader.read if measure in measures for slot in range(window.start, window.end)
        )
        for measure in MEASURES
    }


def all_of(window: Window) -> dict[Measure, list[int]]:
    """Every slot of a window, once for each measure."""
    return {measure: list(range(window.start, window.end)) for measure in MEASURES}


def test_loading_fills_a_day_and_an_hour() -> None:
    """The window is read whole after the mark was taken, every slot of every measure once, the newest hour first."""
    market = make_market(["SIM:AAA"], slots=2 * DAY_SLOTS, holes=0.1, measures=[Measure.PRICE])
    reader = Fickle(make_store(market))
    made = unserved(reader)

    assert made.follower.step()
    whole = Window.ending(LAST + 1, HOT_SLOTS)
    assert reader.asked[0] == "mark"
    assert reader.read[0][0].end == whole.end
    assert read_slots(reader) == all_of(whole)
    np.testing.assert_array_equal(made.window.read(PRICE, whole)[0], market.expected(PRICE, whole))
    assert made.health == [True]
    assert made.follower.loaded.done()


def test_what_one_read_asks_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many series are read in short stretches, each of which begins with an hour, and none of it is missed."""
    monkeypatch.setattr(following, "_CHUNK_VALUES", 400)
    market = make_market(["SIM:AAA", "SIM:BBB"], slots=2 * DAY_SLOTS, measures=[Measure.PRICE, Measure.VOLUME])
    reader = Fickle(make_store(market))
    made = unserved(reader)

    assert made.follower.step()
    whole = Window.ending(LAST + 1, HOT_SLOTS)
    assert read_slots(reader) == all_of(whole)
    assert all(len(window) <= 200 for window, _ in reader.read)
    assert all(window.start % 60 == 0 or window.start == whole.start for window, _ in reader.read)
    for name in ("SIM:AAA", "SIM:BBB"):
        for measure in (Measure.PRICE, Measure.VOLUME):
            series = Series(name, measure)
            np.testing.assert_array_equal(made.window.read(series, whole)[0], market.expected(series, whole))


def test_hours_without_points_are_passed_over() -> None:
    """Where nobody has written for hours the hours are read one by one until there is something."""
    market = make_market(["SIM:AAA"], slots=DAY_SLOTS, end=LAST - 300, measures=[Measure.PRICE])
    reader = Fickle(make_store(market))
    made = unserved(reader)

    assert made.follower.step()
    whole = Window.ending(LAST + 1, HOT_SLOTS)
    assert all(len(window) <= 120 for window, _ in reader.read[:5])
    assert read_slots(reader) == all_of(whole)
    np.testing.assert_array_equal(made.window.read(PRICE, whole)[0], market.expected(PRICE, whole))


def test_writes_during_the_load_are_not_lost() -> None:
    """What is written while the window is being read is read again, because the mark is older."""
    store = make_store(make_market(["SIM:AAA"], measures=[Measure.PRICE]))
    reader = Fickle(store)
    original = store.read_window

    def read_window(*arguments: Any) -> Any:
        columns = original(*arguments)
        store.write(point(LAST - 1400, 77.0))
        return columns

    store.read_window = read_window  # type: ignore[method-assign,assignment]
    made = unserved(reader)
    assert made.follower.step()

    assert made.window.read(PRICE, Window(Slot(LAST - 1400), Slot(LAST - 1399)))[0].tolist() == [77.0]


def test_a_run_moves_the_window_s_end_after_its_points() -> None:
    """A slot is counted as written only when its run is recorded, and then its points are there."""
    store = make_store(make_market(["SIM:AAA"], measures=[Measure.PRICE]))
    made = unserved(store)
    made.follower.step()
    store.write(point(LAST + 1, 5.0))
    made.follower.step()
    before = made.querying.present()
    record_run(store, Slot(LAST + 1))
    made.follower.step()
    after = made.querying.present()

    assert before[1] == LAST + 1
    assert after[1] == LAST + 2
    assert made.window.read(PRICE, Window(Slot(LAST + 1), Slot(LAST + 2)))[0].tolist() == [5.0]


def test_a_store_that_goes_away_is_survived() -> None:
    """While the store is away the window answers; the health turns only once it is stale, and back when it is read."""
    reader = Fickle(make_store(make_market(["SIM:AAA"], measures=[Measure.PRICE])))
    made = unserved(reader, stale_after_seconds=120)
    assert made.follower.step()
    reader.error = StoreUnavailableError("test:", "away")
    made.clock.advance(100)
    assert not made.follower.step()
    assert made.health[-1]
    assert made.follower.lag_seconds == 100
    made.clock.advance(30)
    assert not made.follower.step()
    assert not made.health[-1]
    assert made.querying.list_metrics(None, "", 10)[0]
    reader.error = None
    reader.store.write(point(LAST, 42.0))
    assert made.follower.step()

    assert made.health[-1]
    assert made.follower.lag_seconds == 0
    assert made.window.read(PRICE, Window(LAST, Slot(LAST + 1)))[0].tolist() == [42.0]


def test_nothing_is_lost_or_sent_twice_over_an_outage() -> None:
    """A batch that could not be read is read whole afterwards, and a subscriber gets it once."""
    reader = Fickle(make_store())
    made = unserved(reader)
    made.follower.step()
    subscriber = made.broadcast.subscribe(lambda: None)
    reader.store.write(point(LAST, 1.0))
    reader.error, reader.only = StoreUnavailableError("test:", "away"), "latest_runs"
    record_run(reader.store, LAST)
    made.follower.step()
    reader.error = None
    made.follower.step()
    batches = []
    while not isinstance(taken := subscriber.take(0), str):
        assert taken is not None
        batches.append(taken)

    assert [batch.content.values.tolist() for batch in batches] == [[1.0]]


@pytest.mark.parametrize("error", [CursorExpiredError("forgotten"), InvalidCursorError("another store's")])
def test_a_forgotten_mark_reads_the_window_anew(error: Exception) -> None:
    """When the store cannot continue, the window is read whole again and streams are told, never skipped over."""
    reader = Fickle(make_store(make_market(["SIM:AAA"], measures=[Measure.PRICE])))
    made = unserved(reader)
    made.follower.step()
    subscriber = made.broadcast.subscribe(lambda: None)
    reader.error, reader.only = error, "read_since"
    made.follower.step()
    reader.error = None
    reader.store.write(point(LAST, 8.0))
    assert made.follower.step()

    assert made.window.read(PRICE, Window(LAST, Slot(LAST + 1)))[0].tolist() == [8.0]
    with pytest.raises(CursorExpiredError):
        subscriber.take(0)


def test_while_it_is_read_anew_it_is_not_ready() -> None:
    """A window that is being filled again answers nothing rather than half."""
    reader = Fickle(make_store(make_market(["SIM:AAA"], measures=[Measure.PRICE])))
    made = unserved(reader)
    made.follower.step()
    reader.error, reader.only = CursorExpiredError("forgotten"), "read_since"
    made.follower.step()
    reader.error, reader.only = StoreUnavailableError("test:", "away"), "read_window"
    made.follower.step()
    with pytest.raises(NotReadyError):
        made.querying.present()
    assert not made.health[-1]
    reader.error = None
    made.follower.step()

    assert made.querying.present()[1] == LAST + 1


def test_a_refusal_at_the_start_is_told_and_a_later_one_survived() -> None:
    """Wrong credentials end the wait for readiness; the same later is an outage like any other."""
    reader = Fickle(make_store())
    reader.error = StoreRefusedError("test:", "wrong token")
    made = unserved(reader)
    made.follower.step()
    with pytest.raises(StoreRefusedError):
        made.follower.loaded.result(0)

    later = Fickle(make_store())
    steady = unserved(later)
    steady.follower.step()
    later.error = StoreRefusedError("test:", "token revoked")
    steady.follower.step()
    assert steady.health == [True, True]


def test_a_defect_does_not_end_the_follower(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is logged and counted as a failed poll; the next one is made."""
    reader = Fickle(make_store())
    made = unserved(reader)
    made.follower.step()
    reader.error = ValueError("a defect")
    assert not made.follower.step()
    reader.error = None

    assert made.follower.step()
    assert "a defect" in caplog.text


def test_it_follows_in_a_thread_until_it_is_stopped() -> None:
    """The thread loads the window by itself, and is gone when `stop` returns."""
    made = unserved(make_store())
    made.follower.start()
    made.follower.loaded.result(10)
    assert "tickwatch-follower" in {thread.name for thread in threading.enumerate()}
    made.follower.stop()

    assert "tickwatch-follower" not in {thread.name for thread in threading.enumerate()}


def test_ten_thousand_series_are_read_in_small_stretches() -> None:
    """The more series there are, the fewer hours are read at once."""
    reader = Fickle(make_store(make_market(names(10_000), slots=2, measures=[Measure.PRICE, Measure.VOLUME])))
    made = unserved(reader)
    made.follower.step()

    assert max(len(window) for window, _ in reader.read) == 360  # of ten thousand series, 4 million values at most
    assert made.window.series_count == 20_000


def test_a_collector_s_wrong_clock_does_not_empty_the_day(caplog: pytest.LogCaptureFixture) -> None:
    """Points and runs from the far future neither push the day out of the rings nor move the window's end."""
    store = make_store(make_market(["SIM:AAA"], measures=[Measure.PRICE]))
    made = unserved(store)
    made.follower.step()
    before = made.window.read(PRICE, Window.ending(LAST + 1))[0]
    store._clock.set(store._clock.now() + 21 * 86400)  # type: ignore[attr-defined]
    store.write(
        Points.of([(PRICE, LAST + 20 * DAY_SLOTS, 1.0, Quality.OBSERVED), (PRICE, LAST, 2.0, Quality.OBSERVED)])
    )
    record_run(store, Slot(LAST + 20 * DAY_SLOTS))
    assert made.follower.step()
    after = made.window.read(PRICE, Window.ending(LAST + 1))[0]

    np.testing.assert_array_equal(after, [*before[:-1], 2.0])
    assert made.querying.present()[1] == LAST + 1
    assert "left out 1 points from the future" in caplog.text
    again = unserved(store)
    assert again.follower.step()
    assert again.window.head <= LAST + 36
