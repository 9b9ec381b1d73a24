"""Files are loaded at once or row by row refused with their line, whatever their size."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from services.collector.bulk import load_file
from services.collector.progress import Progress
from services.core.clock import ManualClock
from services.core.errors import InvalidInputError, StoreUnavailableError
from services.core.model import Measure, Points, Quality, Series, Slot, Window, slot_time
from services.core.store.base import MetricStore
from services.core.store.opening import open_store

NOW = Slot(29_660_000)
HEADER = "metric,measure,time,value\n"
CLOCK = ManualClock(NOW * 60 + 30)
BTC = "KRAKEN:BTCUSD"


@pytest.fixture
def store() -> Iterator[MetricStore]:
    """An empty store."""
    with open_store("memory:", clock=CLOCK) as opened:
        yield opened


def at(slot: int) -> str:
    """A slot as people write it."""
    return f"{slot_time(slot):%Y-%m-%dT%H:%M:%SZ}"


def points(store: MetricStore, series: Series) -> dict[int, tuple[float, int]]:
    """A series' points by slots counted from now."""
    columns = store.read_series(series, Window.ending(NOW + 1))
    return {
        i - 1439: (float(v), int(q))
        for i, (v, q) in enumerate(zip(columns.values, columns.qualities, strict=True))
        if q
    }


@pytest.mark.parametrize("packed", [False, True])
def test_rows_become_points(tmp_path: Path, store: MetricStore, packed: bool) -> None:  # noqa: FBT001  a parameter of the test
    """ISO times and unix seconds, signed measures, quoted fields, empty lines and CRLF; all marked BACKFILLED."""
    text = (
        HEADER
        + f"{BTC},price,{at(NOW)},64000.5\r\n"
        + f"{BTC},price,{(NOW - 1) * 60},64000\n\n"
        + f'"{BTC}","change_absolute",{slot_time(NOW - 2).isoformat()},-12.5\n'
        + f"{BTC},volume_1m,{NOW * 60},0"
    )
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())

    report = load_file(path, writer=store, clock=CLOCK)

    assert (4, 4, 0, []) == (report.row_count, report.point_count, report.bad_count, report.problems)
    assert {0: (64000.5, 2), -1: (64000.0, 2)} == points(store, Series(BTC, Measure.PRICE))
    assert {-2: (-12.5, Quality.BACKFILLED)} == points(store, Series(BTC, Measure.CHANGE_ABSOLUTE))
    assert {0: (0.0, Quality.BACKFILLED)} == points(store, Series(BTC, Measure.VOLUME_1M))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"{BTC},price,{NOW * 60}", "3 columns instead of metric,measure,time,value"),
        (f"{BTC},price,{NOW * 60},1,2", "5 columns instead of"),
        (f"btcusd,price,{NOW * 60},1", "'btcusd' is not a metric name"),
        (f"{BTC},prices,{NOW * 60},1", "unknown measure 'prices'; one of price, volume"),
        (f"{BTC},price,{NOW * 60 + 1},1", "is not on a whole minute"),
        (f"{BTC},price,{at(NOW)[:-1]}.5Z,1", "is not on a whole minute"),
        (f"{BTC},price,noon,1", "the time is 'noon'; give seconds since 1970 or ISO 8601"),
        (f"{BTC},price,,1", "the time is ''"),
        (f"{BTC},price,{'60' * 15},1", "lies in the future"),
        (f"{BTC},price,-60,1", "the time is '-60'"),
        (f"{BTC},price,{at(NOW)[:-1]}+01:00,1", "is not in UTC"),
        (f"{BTC},price,{(NOW + 1) * 60},1", "lies in the future"),
        (f"{BTC},price,0,1", "is beyond the 30 days kept; the oldest is"),
        (f"{BTC},price,{NOW * 60},nan", "the value is 'nan', not a number"),
        (f"{BTC},price,{NOW * 60},inf", "the value is 'inf', not a number"),
        (f"{BTC},price,{NOW * 60},1e999", "the value is '1e999', not a number"),
        (f"{BTC},price,{NOW * 60},1_000", "the value is '1_000', not a number"),
        (f"{BTC},price,{NOW * 60},", "the value is '', not a number"),
        (f"{BTC},price,{NOW * 60},-1", "the price is -1, not above 0"),
        (f"{BTC},price,{NOW * 60},0", "the price is 0, not above 0"),
        (f"{BTC},volume,{NOW * 60},-1", "the volume is -1, negative"),
    ],
)
def test_a_row_that_cannot_be_a_point_is_told_with_its_line(
    tmp_path: Path, store: MetricStore, row: str, problem: str
) -> None:
    """The rows around it are loaded."""
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}{BTC},price,{NOW * 60},1\n{row}\n{BTC},volume,{NOW * 60},2\n")

    report = load_file(path, writer=store, clock=CLOCK)

    assert (3, 2, 1, 1) == (report.row_count, report.point_count, report.bad_count, report.exit_code)
    (told,) = report.problems
    assert told.startswith("line 3: ")
    assert problem in told


def test_the_first_twenty_bad_rows_are_told_and_all_are_counted(tmp_path: Path, store: MetricStore) -> None:
    """A file that is wrong all over does not flood the screen."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "x\n" * 1000)

    report = load_file(path, writer=store, clock=CLOCK)

    assert (1000, 20) == (report.bad_count, len(report.problems))
    assert "line 21: " in report.problems[-1]


def test_a_candle_file_becomes_price_and_volume(tmp_path: Path, store: MetricStore) -> None:
    """Kraken's rows are time, open, high, low, close, volume, trades; the metric is named by the caller."""
    path = tmp_path / "XBTUSD_1.csv"
    path.write_text(f"{(NOW - 1) * 60},1,9,0.5,2,10.5,3\n{NOW * 60},2,2,2,2.5,0.0,1\n{NOW * 60 + 60},1,1,1,1,1,1\n")

    report = load_file(path, writer=store, metric=BTC, clock=CLOCK)

    assert (3, 4, 1) == (report.row_count, report.point_count, report.bad_count)
    assert report.problems[0].startswith("line 3: ")
    assert {-1: (2.0, 2), 0: (2.5, 2)} == points(store, Series(BTC, Measure.PRICE))
    assert {-1: (10.5, 2), 0: (0.0, 2)} == points(store, Series(BTC, Measure.VOLUME_1M))


def test_candles_of_another_length_are_refused(tmp_path: Path, store: MetricStore) -> None:
    """A volume of five minutes is not one of a minute."""
    path = tmp_path / "XBTUSD_5.csv"
    path.write_text("".join(f"{(NOW - NOW % 5 - 5 * i) * 60},1,1,1,1,1,1\n" for i in range(30)))
    with pytest.raises(InvalidInputError, match="its candles are not of one minute"):
        load_file(path, writer=store, metric=BTC, clock=CLOCK)
    assert () == store.list_series()


@pytest.mark.parametrize(
    ("text", "metric", "problem"),
    [
        (f"{NOW * 60},1,1,1,1,1,1\n", None, "from: the first line is '1779600000,1,1,1,1,1,1', not the header"),
        ("", None, "from: the first line is '', not the header metric,measure,time,value"),
        (HEADER, BTC, "metric: the file names its metrics itself"),
        (f"{NOW * 60},1,1,1,1,1,1\n", "btc", "metric: 'btc' is not a metric name"),
    ],
)
def test_a_file_of_neither_form_is_refused(
    tmp_path: Path, store: MetricStore, text: str, metric: str | None, problem: str
) -> None:
    """Nothing of it is loaded."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as refused:
        load_file(path, writer=store, metric=metric, clock=CLOCK)
    assert problem in str(refused.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, store: MetricStore) -> None:
    """Absent, cut off within its compression, not compressed at all, or not text."""
    whole = gzip.compress((HEADER + f"{BTC},price,{NOW * 60},1\n" * 1000).encode())
    files = {"cut.csv.gz": whole[:-20], "plain.csv.gz": b"metric", "bytes.csv": HEADER.encode() + b"\xff\xfe\n"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name in [*files, "none.csv"]:
        with pytest.raises(InvalidInputError, match=name):
            load_file(tmp_path / name, writer=store, clock=CLOCK)


def test_a_load_repeated_or_resumed_leaves_the_same_points(tmp_path: Path, store: MetricStore) -> None:
    """A store that fails in the middle of a load is completed by the same load."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(f"{BTC},price,{(NOW - i % 9) * 60},{i + 1}\n" for i in range(9)))

    class Failing:
        def write_batches(self, batches: Iterable[Points]) -> int:
            store.write(next(iter(batches)))
            raise StoreUnavailableError("x", "away")

    with pytest.raises(StoreUnavailableError):
        load_file(path, writer=Failing(), clock=CLOCK)  # type: ignore[arg-type]  # one method is all it needs
    load_file(path, writer=store, clock=CLOCK)
    load_file(path, writer=store, clock=CLOCK)

    assert {-i: (float(i + 1), 2) for i in range(9)} == points(store, Series(BTC, Measure.PRICE))


def test_a_large_file_passes_through_in_pieces(tmp_path: Path) -> None:
    """What is read ahead is bounded, whatever the file's size; progress ends at that size."""
    path = tmp_path / "a.csv"
    block = "".join(f"{BTC},price,{(NOW - i) * 60},{i + 1}.12345678\n" for i in range(10_000))
    path.write_text(HEADER + 20 * block)
    seen: list[Progress] = []

    class Counting:
        largest = 0

        def write_batches(self, batches: Iterable[Points]) -> int:
            for batch in batches:
                self.largest = max(self.largest, len(batch))
                assert not seen or seen[-1].done < path.stat().st_size, "read only when it is asked for"
            return 0

    counting = Counting()
    report = load_file(path, writer=counting, clock=CLOCK, progress=seen.append)  # type: ignore[arg-type]  # as above

    assert 200_000 == report.point_count
    assert counting.largest < 60_000
    assert path.stat().st_size == seen[-1].done == seen[-1].total
    assert [p.done for p in seen] == sorted({p.done for p in seen})
    assert len(seen) > 3
