"""What every store does, whatever is behind it. A backend's file makes one and inherits the suite."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import pytest

from services.core.clock import ManualClock
from services.core.errors import (
    CursorExpiredError,
    InvalidCursorError,
    InvalidInputError,
    StoreUnavailableError,
)
from services.core.model import DAY_SLOTS, Measure, Outcome, Points, Quality, Run, Series, Slot, Window
from services.core.store.base import Mark, MetricStore
from tests.support.stores import (
    BTC,
    BTC_VOLUME,
    ETH,
    NOON,
    NOON_SLOT,
    XRP,
    backfilled,
    market,
    observed,
    rows_of,
)

HOUR = Window(Slot(NOON_SLOT - 60), NOON_SLOT)
NAN = float("nan")


def assert_same(expected: list[float], actual: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Equal value by value, NaN to NaN."""
    np.testing.assert_array_equal(np.array(expected), actual)


class StoreSuite(ABC):
    """Inherit, and say how a store of the backend is made."""

    @abstractmethod
    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        """Open the store at the place; opening it twice gives two stores on the same data."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """A clock that shows noon."""
        return ManualClock(NOON)

    @pytest.fixture
    def store(self, place: object, clock: ManualClock) -> Iterator[MetricStore]:
        """An empty store."""
        with self.open_store(place, clock) as store:
            yield store

    @pytest.fixture
    def second(self, place: object, clock: ManualClock, store: MetricStore) -> Iterator[MetricStore]:
        """Another store on the same data, as another process would open it."""
        with self.open_store(place, clock) as second:
            yield second

    # Writing and reading

    def test_what_was_written_is_read_dense(self, store: MetricStore) -> None:
        """A series reads as one value a slot, NaN and quality 0 where there is no point."""
        store.write(observed(BTC, 1.5, 2.5, start=HOUR.start + 1))

        columns = store.read_series(BTC, Window(HOUR.start, Slot(HOUR.start + 4)))

        assert_same([NAN, 1.5, 2.5, NAN], columns.values)
        assert [0, 1, 1, 0] == columns.qualities.tolist()
        assert columns.values.dtype == np.float64
        assert columns.qualities.dtype == np.uint8

    def test_values_survive_to_the_last_bit(self, store: MetricStore) -> None:
        """A float64 is read as it was written, the smallest, the largest and the awkward included."""
        values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -1e-7, 123456789.123456789, 0.0, 1e22, 2.0**53 + 2]
        store.write(observed(BTC, *values, start=HOUR.start))

        assert values == store.read_series(BTC, Window(HOUR.start, Slot(HOUR.start + 9))).values.tolist()

    def test_a_window_is_half_open(self, store: MetricStore) -> None:
        """A window holds its first slot and not its last, in both kinds of read."""
        store.write(observed(BTC, *range(10), start=HOUR.start))
        window = Window(Slot(HOUR.start + 2), Slot(HOUR.start + 5))

        assert [2, 3, 4] == store.read_series(BTC, window).values.tolist()
        assert [[2, 3, 4]] == store.read_window(window).values.tolist()

    def test_an_empty_window_gives_nothing(self, store: MetricStore) -> None:
        """A window of no slots has no series and no columns, whatever is stored."""
        store.write(observed(BTC, 1.0, start=HOUR.start))
        nothing = Window(HOUR.start, HOUR.start)

        assert () == store.read_window(nothing).series
        assert (0, 0) == store.read_window(nothing).values.shape
        assert 0 == len(store.read_series(BTC, nothing).values)

    def test_many_series_come_in_order(self, store: MetricStore) -> None:
        """A window read gives rows ordered by name and measure, and leaves out series without a point in it."""
        store.write(observed(XRP, 3.0, start=HOUR.start))
        store.write(observed(BTC_VOLUME, 9.0, start=HOUR.start + 2))
        store.write(observed(BTC, 1.0, 2.0, start=HOUR.start))
        store.write(observed(ETH, 7.0, start=HOUR.start - 1))

        columns = store.read_window(Window(HOUR.start, Slot(HOUR.start + 3)))

        assert (BTC, BTC_VOLUME, XRP) == columns.series
        np.testing.assert_array_equal([[1, 2, NAN], [NAN, NAN, 9], [3, NAN, NAN]], columns.values)
        np.testing.assert_array_equal([[1, 1, 0], [0, 0, 1], [1, 0, 0]], columns.qualities)
        assert columns.values.flags.c_contiguous

    def test_measures_filter_a_window(self, store: MetricStore) -> None:
        """Only series of the measures asked for are read; none asked for gives none."""
        store.write(observed(BTC, 1.0, start=HOUR.start))
        store.write(observed(BTC_VOLUME, 2.0, start=HOUR.start))

        assert (BTC_VOLUME,) == store.read_window(HOUR, [Measure.VOLUME]).series
        assert () == store.read_window(HOUR, [Measure.CHANGE_ABSOLUTE]).series
        assert () == store.read_window(HOUR, []).series

    def test_windows_need_no_alignment(self, store: MetricStore) -> None:
        """Windows of any start and length, over hours and midnight, give exactly their slots."""
        points = market(2, NOON_SLOT - 2000, 2000, measures=[Measure.PRICE])
        store.write(points)
        dense = points.values.reshape(2, 2000)

        for start, end in ((0, 2000), (1, 1999), (17, 18), (55, 65), (719, 722), (1279, 1343), (60, 120), (1999, 2000)):
            columns = store.read_window(Window(Slot(NOON_SLOT - 2000 + start), Slot(NOON_SLOT - 2000 + end)))
            np.testing.assert_array_equal(dense[:, start:end], columns.values)

    def test_an_unknown_series_is_all_missing(self, store: MetricStore) -> None:
        """Reading a series that nobody wrote is an answer full of NaN, not an error."""
        columns = store.read_series(Series('KRAKEN:"); DROP', Measure.PRICE), HOUR)

        assert np.isnan(columns.values).all()
        assert 60 == len(columns.values)
        assert not columns.qualities.any()

    def test_an_empty_batch_does_nothing(self, store: MetricStore) -> None:
        """Writing no points changes nothing, the write order included."""
        mark = store.mark()
        store.write(Points.of([]))

        assert () == store.list_series()
        assert [] == rows_of(store.read_since(mark).points)

    def test_a_second_store_reads_the_same(self, store: MetricStore, second: MetricStore) -> None:
        """What a write returned for is visible to another store on the same data at once."""
        store.write(observed(BTC, 1.0, start=HOUR.start))

        assert 1.0 == second.read_series(BTC, HOUR).values[0]
        assert (BTC,) == second.list_series()

    # Replacing

    def test_rewriting_changes_nothing(self, store: MetricStore) -> None:
        """The same write made twice leaves what it leaves once."""
        for _ in range(2):
            store.write(observed(BTC, 1.0, 2.0, start=HOUR.start))

        assert [1.0, 2.0] == store.read_series(BTC, Window(HOUR.start, Slot(HOUR.start + 2))).values.tolist()

    def test_a_point_replaces_value_and_quality(self, store: MetricStore) -> None:
        """The later point of a series and slot holds, in both its value and its quality; its neighbours stay."""
        store.write(observed(BTC, 1.0, 2.0, 3.0, start=HOUR.start))
        store.write(backfilled(BTC, 9.0, start=HOUR.start + 1))

        columns = store.read_series(BTC, Window(HOUR.start, Slot(HOUR.start + 3)))

        assert [1.0, 9.0, 3.0] == columns.values.tolist()
        assert [Quality.OBSERVED, Quality.BACKFILLED, Quality.OBSERVED] == columns.qualities.tolist()

    def test_measures_of_a_metric_are_independent(self, store: MetricStore) -> None:
        """Writing one measure of a metric and slot leaves its other measures as they were."""
        store.write(observed(BTC, 1.0, start=HOUR.start))
        store.write(backfilled(BTC_VOLUME, 5.0, start=HOUR.start))
        store.write(backfilled(BTC, 2.0, start=HOUR.start))

        columns = store.read_window(Window(HOUR.start, Slot(HOUR.start + 1)))

        assert [[2.0], [5.0]] == columns.values.tolist()
        assert [[2], [2]] == columns.qualities.tolist()

    def test_the_last_duplicate_in_a_batch_counts(self, store: MetricStore) -> None:
        """Of two points of one series and slot in a batch the later holds, value and quality both."""
        store.write(
            Points.of(
                [
                    (BTC, HOUR.start, 1.0, Quality.OBSERVED),
                    (ETH, HOUR.start, 7.0, Quality.OBSERVED),
                    (BTC, HOUR.start + 1, 4.0, Quality.OBSERVED),
                    (BTC, HOUR.start, 2.0, Quality.BACKFILLED),
                    (BTC, HOUR.start, 3.0, Quality.OBSERVED),
                ]
            )
        )

        columns = store.read_window(Window(HOUR.start, Slot(HOUR.start + 1)))

        assert [[3.0], [7.0]] == columns.values.tolist()
        assert [[1], [1]] == columns.qualities.tolist()

    # Ownership

    def test_arrays_given_are_not_kept(self, store: MetricStore) -> None:
        """Who wrote an array may change it afterwards without changing the store."""
        points = observed(BTC, 1.0, 2.0, start=HOUR.start)
        mark = store.mark()
        store.write(points)
        points.values[:] = 99.0
        points.slots[:] = 0

        assert [1.0, 2.0] == store.read_series(BTC, Window(HOUR.start, Slot(HOUR.start + 2))).values.tolist()
        assert [1.0, 2.0] == store.read_since(mark).points.values.tolist()

    def test_arrays_returned_are_the_callers(self, store: MetricStore) -> None:
        """Who reads may write into what was read without changing the store or another's answer."""
        store.write(observed(BTC, 1.0, start=HOUR.start))
        mark = Mark(str(store.mark()))
        for _ in range(2):
            row = store.read_series(BTC, HOUR)
            table = store.read_window(HOUR)

            assert 1.0 == row.values[0] == table.values[0, 0]
            row.values[:] = table.values[:] = 99.0
            row.qualities[:] = table.qualities[:] = 2
        store.write(observed(BTC, 2.0, start=HOUR.start))
        for _ in range(2):
            changes = store.read_since(mark)

            assert [2.0] == changes.points.values.tolist()
            changes.points.values[:] = 99.0

    # Listing

    def test_series_are_listed_in_order(self, store: MetricStore) -> None:
        """Every series with a point is listed once, by name and then by the measures' own order."""
        assert () == store.list_series()
        store.write(observed(XRP, 1.0, start=HOUR.start))
        store.write(observed(BTC_VOLUME, 1.0, 2.0, start=HOUR.start - 500))
        store.write(observed(Series("KRAKEN:BTCUSD", Measure.CHANGE_PERCENTAGE), -1.0))
        store.write(observed(BTC, 1.0))

        assert (BTC, BTC_VOLUME, Series("KRAKEN:BTCUSD", Measure.CHANGE_PERCENTAGE), XRP) == store.list_series()

    # Limits

    def test_too_old_is_refused(self, store: MetricStore) -> None:
        """A slot beyond the retention is refused by name, and nothing of its batch is stored."""
        mark = store.mark()
        batch = Points.concatenate([observed(BTC, 1.0), observed(ETH, 2.0, start=NOON_SLOT - 30 * DAY_SLOTS - 1)])
        with pytest.raises(InvalidInputError, match=r"KRAKEN:ETHUSD is older than the 30 days that are kept") as caught:
            store.write(batch)

        assert "slot" == caught.value.field
        assert "2023-10-15T11:59Z" in caught.value.problem
        assert () == store.list_series()
        assert [] == rows_of(store.read_since(mark).points)

    def test_the_oldest_slot_is_kept(self, store: MetricStore) -> None:
        """The slot exactly as old as the retention may still be written and read."""
        oldest = Slot(NOON_SLOT - 30 * DAY_SLOTS)
        store.write(observed(BTC, 1.0, start=oldest))

        assert [1.0] == store.read_series(BTC, Window(oldest, Slot(oldest + 1))).values.tolist()

    def test_the_future_is_refused(self, store: MetricStore) -> None:
        """One slot after the one in progress is accepted; the next is refused and nothing is stored."""
        store.write(observed(BTC, 1.0, start=NOON_SLOT + 1))
        with pytest.raises(InvalidInputError, match="2023-11-14T12:02Z of KRAKEN:ETHUSD lies in the future"):
            store.write(observed(ETH, 1.0, 2.0, start=NOON_SLOT + 1))

        assert (BTC,) == store.list_series()

    def test_absurd_slots_are_refused(self, store: MetricStore) -> None:
        """Slots that no calendar knows are refused like others, not by an accident of arithmetic."""
        for slot in (-1, 0, 2**40, 2**62):
            with pytest.raises(InvalidInputError):
                store.write(observed(BTC, 1.0, start=slot))

    # Retention

    def test_what_grows_too_old_is_not_read(self, store: MetricStore, clock: ManualClock) -> None:
        """As time passes, points beyond the retention vanish from every read, expired or not."""
        oldest = Slot(NOON_SLOT - 30 * DAY_SLOTS)
        store.write(observed(BTC, 1.0, 2.0, 3.0, start=oldest))
        store.write(observed(ETH, 4.0, start=oldest + 1))
        before = store.mark()
        store.write(observed(XRP, 5.0, 6.0, start=oldest + 1))
        for expire in (False, True):
            clock.set(NOON + 120)
            if expire:
                store.expire()
            window = Window(oldest, Slot(oldest + 4))

            assert_same([NAN, NAN, 3.0, NAN], store.read_series(BTC, window).values)
            assert np.isnan(store.read_series(ETH, window).values).all()
            assert (BTC, XRP) == store.read_window(window).series
            assert (BTC, XRP) == store.list_series()
            assert [(XRP, oldest + 2, 6.0, Quality.OBSERVED)] == rows_of(store.read_since(before).points)

    def test_a_shorter_retention_counts_its_own_days(self, clock: ManualClock, place: object) -> None:
        """A store opened for fewer days refuses and hides what is older than those."""
        with self.open_store(place, clock) as store:
            store.write(observed(BTC, 1.0, start=NOON_SLOT - 25 * DAY_SLOTS))

            clock.advance(6 * 86_400)

            assert () == store.list_series()

    def test_expiring_keeps_what_is_young(self, store: MetricStore, clock: ManualClock) -> None:
        """Expiring deletes nothing within the retention, and may be repeated."""
        points = market(3, NOON_SLOT - 31 * 60, 31 * 60, measures=[Measure.PRICE])
        store.write(points)
        clock.advance((30 * DAY_SLOTS - 30 * 60) * 60)
        for _ in range(2):
            store.expire()

        columns = store.read_window(Window(Slot(NOON_SLOT - 31 * 60), NOON_SLOT))

        assert np.isnan(columns.values[:, :60]).all()
        np.testing.assert_array_equal(points.values.reshape(3, -1)[:, 60:], columns.values[:, 60:])

    # Following

    def test_a_follower_sees_each_write(self, store: MetricStore) -> None:
        """What is written after a mark is read since it, ordered by slot and then series; the next mark continues."""
        store.write(observed(BTC, 1.0, start=HOUR.start))
        first = store.mark()
        store.write(observed(ETH, 2.0, 3.0, start=HOUR.start))
        store.write(backfilled(BTC, 4.0, start=HOUR.start + 1))

        changes = store.read_since(first)

        assert [
            (ETH, HOUR.start, 2.0, Quality.OBSERVED),
            (BTC, HOUR.start + 1, 4.0, Quality.BACKFILLED),
            (ETH, HOUR.start + 1, 3.0, Quality.OBSERVED),
        ] == [row for row in rows_of(changes.points) if row[:2] != (BTC, HOUR.start)]
        store.write(observed(XRP, 5.0, start=HOUR.start + 2))

        assert (XRP, HOUR.start + 2, 5.0, Quality.OBSERVED) in rows_of(store.read_since(changes.mark).points)

    def test_late_points_are_followed(self, store: MetricStore) -> None:
        """A point for a slot of long ago is seen since the mark like any other."""
        store.write(observed(BTC, 1.0, start=NOON_SLOT))
        mark = store.mark()
        store.write(backfilled(BTC, 2.0, start=NOON_SLOT - 29 * DAY_SLOTS))

        rows = rows_of(store.read_since(mark).points)

        assert (BTC, NOON_SLOT - 29 * DAY_SLOTS, 2.0, Quality.BACKFILLED) in rows

    def test_a_replaced_point_is_followed(self, store: MetricStore) -> None:
        """A point that replaces another is a change; it comes with the value that holds when it is read."""
        store.write(observed(BTC, 1.0, start=HOUR.start))
        mark = store.mark()
        store.write(observed(BTC, 2.0, start=HOUR.start))
        store.write(backfilled(BTC, 3.0, start=HOUR.start))

        assert [(BTC, HOUR.start, 3.0, Quality.BACKFILLED)] == rows_of(store.read_since(mark).points)

    def test_reading_twice_from_a_mark_gives_the_same(self, store: MetricStore) -> None:
        """A mark is not used up: reading from it again gives everything again."""
        mark = store.mark()
        store.write(observed(BTC, 1.0, 2.0, start=HOUR.start))

        assert rows_of(store.read_since(mark).points) == rows_of(store.read_since(mark).points) != []

    def test_nothing_is_missed_between_mark_and_read(self, store: MetricStore, second: MetricStore) -> None:
        """A follower that marks, reads the window and then follows has every point, whenever the write came."""
        for step in range(6):
            mark = store.mark()
            if step % 2:
                second.write(observed(BTC, float(step), start=HOUR.start + step))
            state = store.read_window(HOUR)
            if not step % 2:
                second.write(observed(BTC, float(step), start=HOUR.start + step))
            seen = {slot for _, slot, _, _ in rows_of(store.read_since(mark).points)}
            if BTC in state.series:
                seen |= set((np.flatnonzero(state.qualities[0]) + HOUR.start).tolist())

            assert HOUR.start + step in seen

    def test_a_wide_write_is_followed_whole(self, store: MetricStore) -> None:
        """A bulk load of many series and hours is seen since the mark, every point of it once."""
        mark = store.mark()
        points = market(240, NOON_SLOT - 300, 300, measures=[Measure.PRICE, Measure.VOLUME])
        store.write_batches([points])

        changes = store.read_since(mark).points

        order = np.lexsort((points.series_index, points.slots))
        assert tuple(sorted(points.series)) == changes.series
        np.testing.assert_array_equal(points.slots[order], changes.slots)
        np.testing.assert_array_equal(points.values[order], changes.values)

    def test_marks_outlive_the_store_object(self, store: MetricStore, second: MetricStore) -> None:
        """A mark taken from one store is good at another on the same data."""
        mark = store.mark()
        store.write(observed(BTC, 1.0, start=HOUR.start))

        assert [(BTC, HOUR.start, 1.0, Quality.OBSERVED)] == rows_of(second.read_since(mark).points)

    def test_marks_are_printable(self, store: MetricStore) -> None:
        """A mark is ASCII without spaces, short enough for a cursor."""
        store.write(observed(BTC, 1.0, start=HOUR.start))
        mark = store.mark()

        assert mark.isascii()
        assert mark.isprintable()
        assert " " not in mark
        assert 0 < len(mark) <= 200

    @pytest.mark.parametrize(
        "mark",
        ["", "x", "memory.0.0", "sqlite.0.0", "influxdb.0.0", "sqlite.0.-1", "0", "\n", "é", "sqlite.é.1", "a" * 5000],
    )
    def test_foreign_marks_are_refused(self, store: MetricStore, mark: str) -> None:
        """A string that this store did not issue is not a mark, whatever it looks like."""
        with pytest.raises(InvalidCursorError, match="cursor: "):
            store.read_since(Mark(mark))

    def test_altered_marks_are_refused(self, store: MetricStore) -> None:
        """A mark with its number made greater, negative or not a number is refused."""
        store.write(observed(BTC, 1.0))
        store.write(observed(BTC, 2.0))
        head, _, number = store.mark().rpartition(".")
        for wrong in (f"{int(number) + 10**15}", "-1", "+1", "1_0", " 1", "\u0661", "", "9" * 150):
            with pytest.raises(InvalidCursorError):
                store.read_since(Mark(f"{head}.{wrong}"))

    def test_a_days_marks_are_kept(self, store: MetricStore, clock: ManualClock) -> None:
        """For at least 24 hours nothing written after a mark is forgotten, though the store expires every hour."""
        mark = store.mark()
        for hour in range(24):
            store.write(observed(BTC, float(hour), start=NOON_SLOT + hour * 60))
            clock.advance(3600)
            store.expire()

        assert [NOON_SLOT + hour * 60 for hour in range(24)] == store.read_since(mark).points.slots.tolist()

    def test_an_old_mark_expires(self, store: MetricStore, clock: ManualClock) -> None:
        """A mark whose successors were forgotten is an error that says so, never a silent gap."""
        mark = store.mark()
        store.write(observed(BTC, 1.0, start=NOON_SLOT))
        clock.advance(26 * 3600)
        store.write(observed(BTC, 2.0, start=NOON_SLOT + 26 * 60))
        store.expire()
        with pytest.raises(CursorExpiredError):
            store.read_since(mark)

    # Runs

    def test_no_runs_yet(self, store: MetricStore) -> None:
        """Before any run there is no newest slot and no latest run."""
        assert store.newest_run_slot() is None
        assert () == store.latest_runs()

    def test_runs_are_remembered(self, store: MetricStore, second: MetricStore) -> None:
        """A run reads back as it was recorded, to the exchange's own words."""
        words = 'EQuery:Unknown asset pair, "quoted"\nsecond line, =, \\ and é\t日本'
        run = Run("KRAKEN", NOON_SLOT, NOON + 61.25, 12, Outcome.PARTIAL, words, shard=3)
        store.record_run(run)

        assert (run,) == second.latest_runs()
        assert NOON_SLOT == second.newest_run_slot()

    def test_a_repeated_run_replaces(self, store: MetricStore) -> None:
        """A run of the same exchange, slot and shard replaces the earlier record, its error too."""
        store.record_run(Run("KRAKEN", NOON_SLOT, NOON + 61.0, 0, Outcome.FAILED, "EService:Unavailable"))
        repeated = Run("KRAKEN", NOON_SLOT, NOON + 62.0, 12, Outcome.OK)
        store.record_run(repeated)

        assert (repeated,) == store.latest_runs()

    def test_each_exchanges_newest_run_is_given(self, store: MetricStore) -> None:
        """The latest runs are those of each exchange's newest slot, every shard of it, by exchange and shard."""
        newest = [
            Run("BINANCE", Slot(NOON_SLOT - 3), NOON + 1.0, 1, Outcome.OK),
            Run("KRAKEN", NOON_SLOT, NOON + 2.0, 4, Outcome.OK, shard=0),
            Run("KRAKEN", NOON_SLOT, NOON + 3.0, 0, Outcome.FAILED, "no answer", shard=1),
        ]
        older = [
            Run("KRAKEN", Slot(NOON_SLOT - 1), NOON - 60.0, 9, Outcome.OK, shard=2),
            Run("BINANCE", Slot(NOON_SLOT - 4), NOON - 60.0, 9, Outcome.OK),
        ]
        for run in [newest[2], *older, newest[0], newest[1]]:
            store.record_run(run)

        assert tuple(newest) == store.latest_runs()

    def test_a_run_without_points_is_not_the_newest_written(self, store: MetricStore) -> None:
        """The newest run slot counts only runs that wrote a point; the latest runs count all."""
        store.record_run(Run("KRAKEN", Slot(NOON_SLOT - 1), NOON - 1.0, 12, Outcome.OK))
        failed = Run("KRAKEN", NOON_SLOT, NOON + 1.0, 0, Outcome.FAILED, "no answer")
        store.record_run(failed)

        assert NOON_SLOT - 1 == store.newest_run_slot()
        assert (failed,) == store.latest_runs()

    def test_runs_are_forgotten_with_the_points(self, store: MetricStore, clock: ManualClock) -> None:
        """A run beyond the retention is not returned any more, expired or not."""
        store.record_run(Run("KRAKEN", NOON_SLOT, NOON + 1.0, 12, Outcome.OK))
        clock.advance(30 * 86_400 + 60)
        for expire in (False, True):
            if expire:
                store.expire()

            assert store.newest_run_slot() is None
            assert () == store.latest_runs()

    # Bulk loads

    def test_batches_stream(self, store: MetricStore) -> None:
        """A stream of batches is stored as each in order would be, and its points are counted."""
        first = market(5, NOON_SLOT - 2000, 1000, seed=1)
        second = market(5, NOON_SLOT - 1200, 1000, seed=2)

        count = store.write_batches(iter([first, Points.of([]), second]))

        assert 50_000 == count
        columns = store.read_window(Window(Slot(NOON_SLOT - 2000), Slot(NOON_SLOT - 200)))
        assert tuple(sorted(first.series)) == columns.series
        np.testing.assert_array_equal(first.values.reshape(25, 1000)[:, :800], columns.values[:, :800])
        np.testing.assert_array_equal(second.values.reshape(25, 1000), columns.values[:, 800:])

    def test_a_stream_that_fails_can_be_sent_again(self, store: MetricStore) -> None:
        """A stream that breaks off raises its own error; the same stream sent whole completes it."""
        points = market(2, NOON_SLOT - 100, 100, measures=[Measure.PRICE])

        def broken() -> Iterator[Points]:
            yield points
            raise OSError("the file ends here")

        with pytest.raises(OSError, match="the file ends here"):
            store.write_batches(broken())

        assert 200 == store.write_batches([points])
        assert (2, 100) == store.read_window(Window(Slot(NOON_SLOT - 100), NOON_SLOT)).values.shape

    def test_a_bad_batch_is_refused(self, store: MetricStore) -> None:
        """A batch in a stream is refused as it would be alone."""
        with pytest.raises(InvalidInputError, match="lies in the future"):
            store.write_batches([observed(BTC, 1.0), observed(ETH, 1.0, start=NOON_SLOT + 2)])

        assert ETH not in store.list_series()

    def test_an_empty_stream_is_nothing(self, store: MetricStore) -> None:
        """A stream without batches stores nothing and counts nothing."""
        assert 0 == store.write_batches([])
        assert () == store.list_series()

    # Threads and life

    def test_readers_and_a_writer_at_once(self, store: MetricStore) -> None:
        """While one thread writes, others read each point right or not yet, and a follower ends with everything."""
        series = tuple(Series(f"SIM:M{number}", Measure.PRICE) for number in range(20))
        window = Window(Slot(NOON_SLOT - 30), NOON_SLOT)
        mark, done, failures = store.mark(), threading.Event(), []

        def read() -> None:
            try:
                while not done.is_set():
                    columns = store.read_window(window)
                    slots = np.arange(window.start, window.end)
                    wrong = (columns.qualities != 0) & (columns.values != slots)
                    assert not wrong.any()
                    assert np.isnan(columns.values[columns.qualities == 0]).all()
            except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
                failures.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        followed: dict[tuple[Series, int], float] = {}
        for slot in range(window.start, window.end):
            store.write(Points.of((one, slot, float(slot), Quality.OBSERVED) for one in series))
            if slot % 7 == 0:
                changes = store.read_since(mark)
                mark = changes.mark
                followed |= {row[:2]: row[2] for row in rows_of(changes.points)}
        done.set()
        for reader in readers:
            reader.join()
        followed |= {row[:2]: row[2] for row in rows_of(store.read_since(mark).points)}

        assert [] == failures
        assert {(one, slot): float(slot) for one in series for slot in range(window.start, window.end)} == followed

    def test_writers_at_once(self, store: MetricStore, second: MetricStore) -> None:
        """Two writers of different series at once lose nothing of each other, nor does a follower."""
        mark, failures = store.mark(), []

        def write(own: MetricStore, series: Series) -> None:
            try:
                for minute in range(20):
                    own.write(observed(series, float(minute), start=HOUR.start + minute))
            except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
                failures.append(error)

        writers = [
            threading.Thread(target=write, args=pair) for pair in ((store, BTC), (second, ETH), (store, BTC_VOLUME))
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

        assert [] == failures
        columns = store.read_window(Window(HOUR.start, Slot(HOUR.start + 20)))
        assert (BTC, BTC_VOLUME, ETH) == columns.series
        np.testing.assert_array_equal(np.tile(np.arange(20.0), (3, 1)), columns.values)
        assert 60 == len(store.read_since(mark).points)

    def test_a_closed_store_says_so(self, place: object, clock: ManualClock) -> None:
        """After closing, twice even, every call is an error that says the store is closed."""
        store = self.open_store(place, clock)
        mark = store.mark()
        store.close()
        store.close()
        run = Run("KRAKEN", NOON_SLOT, NOON, 1, Outcome.OK)
        for call in (
            lambda: store.write(observed(BTC, 1.0)),
            lambda: store.write_batches([observed(BTC, 1.0)]),
            lambda: store.record_run(run),
            store.expire,
            store.list_series,
            lambda: store.read_window(HOUR),
            lambda: store.read_series(BTC, HOUR),
            store.mark,
            lambda: store.read_since(mark),
            store.newest_run_slot,
            store.latest_runs,
        ):
            with pytest.raises(StoreUnavailableError, match="the store is closed"):
                call()
