"""What the SQLite store promises when processes share its file, are killed, or find it unusable."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from services.core.clock import ManualClock
from services.core.errors import StoreRefusedError, StoreUnavailableError
from services.core.model import Points, Quality, Slot, Window
from services.core.store.base import Mark, MetricReader, MetricStore
from services.core.store.opening import open_store
from services.core.store.sqlite import schema
from tests.support.store_writer import batch
from tests.support.stores import BTC, ETH, NOON, NOON_SLOT, observed, rows_of

START = NOON_SLOT - 600


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file that does not exist yet."""
    return tmp_path / "tickwatch.db"


@pytest.fixture
def store(path: pathlib.Path) -> Iterator[MetricStore]:
    """The store in that file."""
    with opened(path) as store:
        yield store


def opened(path: pathlib.Path, timeout_seconds: float = 10.0) -> MetricStore:
    """Open the file at noon."""
    return open_store(f"sqlite:{path}", clock=ManualClock(NOON), timeout_seconds=timeout_seconds)


@contextlib.contextmanager
def writer(path: pathlib.Path, name: str, *, count: int, metrics: int) -> Iterator[subprocess.Popen[str]]:
    """Run a writer in a process of its own; it is killed at the end if it still runs."""
    numbers = [str(number) for number in (START, count, metrics)]
    command = [sys.executable, "-m", "tests.support.store_writer", f"sqlite:{path}", name, *numbers]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Follower:
    """Follows a store and counts what it sees: for each exchange, how many points each slot has."""

    def __init__(self, reader: MetricReader, mark: Mark) -> None:
        self._reader = reader
        self._mark = mark
        self.seen: dict[str, Counter[int]] = {}

    def poll(self) -> list[tuple[str, int, int]]:
        """Read what is new; returns exchange, slot and number of points of each slot that came."""
        changes = self._reader.read_since(self._mark)
        self._mark = changes.mark
        came = Counter((series.metric.partition(":")[0], slot) for series, slot, _, _ in rows_of(changes.points))
        for (exchange, slot), number in came.items():
            self.seen.setdefault(exchange, Counter())[slot] = number
        return [(exchange, slot, number) for (exchange, slot), number in came.items()]


def test_a_follower_in_another_process_misses_nothing(store: MetricStore, path: pathlib.Path) -> None:
    """While another process writes slot after slot, a follower here sees each slot, and each of them whole."""
    follower = Follower(store, store.mark())
    with writer(path, "A", count=120, metrics=40) as process:
        while process.poll() is None:
            assert all(number == 40 for _, _, number in follower.poll())
        assert process.returncode == 0
    follower.poll()

    assert follower.seen == {"A": Counter({START + number: 40 for number in range(120)})}


def test_two_writing_processes_wait_for_each_other(store: MetricStore, path: pathlib.Path) -> None:
    """Two processes that write at once both finish, and a follower sees everything of both."""
    follower = Follower(store, store.mark())
    with (
        writer(path, "A", count=60, metrics=20) as one,
        writer(path, "B", count=60, metrics=20) as other,
    ):
        assert (one.wait(timeout=120), other.wait(timeout=120)) == (0, 0)
    follower.poll()

    whole = Counter({START + number: 20 for number in range(60)})
    assert follower.seen == {"A": whole, "B": whole}


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_writer_leaves_whole_batches(path: pathlib.Path, seed: int) -> None:
    """SIGKILL in the midst of a write: what had returned is there, the rest is whole or absent, and repeating heals."""
    metrics = 4000
    random = Random(seed)
    with opened(path) as store:
        mark = store.mark()
    with writer(path, "A", count=500, metrics=metrics) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        returned = int(process.stdout.readline())
        kill = threading.Timer(random.uniform(0, 3) * (time.monotonic() - began), process.kill)
        kill.start()
        returned = max([returned, *map(int, process.stdout.read().split())])
        kill.join()
        assert process.wait(timeout=60) == -signal.SIGKILL

    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with opened(path) as store:
        follower = Follower(store, mark)
        follower.poll()
        slots = follower.seen["A"]
        assert set(slots.values()) == {metrics}
        assert sorted(slots) == list(range(START, START + len(slots)))
        assert returned + 1 <= len(slots) <= returned + 2
        window = Window(Slot(START), Slot(START + returned + 2))
        counts = np.isfinite(store.read_window(window).values).sum(axis=0)
        assert counts.tolist() == [slots[slot] for slot in range(window.start, window.end)]
        store.write(batch("A", START, returned + 1, metrics))
        column = store.read_window(window)
        assert column.values.shape == (metrics, returned + 2)
        assert (column.values == range(returned + 2)).all()


def test_a_failed_write_leaves_nothing_and_is_completed_by_repeating(store: MetricStore, path: pathlib.Path) -> None:
    """A disk full in the midst of a write: an error that says so, nothing stored, and later the same call works."""
    store.write(observed(BTC, 1.0))
    mark = store.mark()
    large = Points.concatenate([batch("A", START, number, 2000) for number in range(10)])
    writing = store._file._writer  # type: ignore[attr-defined]  # the seam: no disk here can be filled
    (pages,) = writing.execute("PRAGMA page_count").fetchone()
    writing.execute(f"PRAGMA max_page_count = {pages + 20}")

    with pytest.raises(StoreUnavailableError, match="full"):
        store.write(large)

    assert not len(store.read_since(mark).points)
    assert store.list_series() == (BTC,)
    writing.execute("PRAGMA max_page_count = 1000000")
    store.write(large)
    assert len(store.read_since(mark).points) == len(large)


def test_a_failed_bulk_load_is_completed_by_repeating(store: MetricStore) -> None:
    """A stream that fails after some of its batches can be sent again, and then everything is there once."""
    batches = [batch("A", START, number, 1000) for number in range(12)]
    writing = store._file._writer  # type: ignore[attr-defined]  # as above
    (pages,) = writing.execute("PRAGMA page_count").fetchone()
    writing.execute(f"PRAGMA max_page_count = {pages + 60}")
    with pytest.raises(StoreUnavailableError, match="full"):
        store.write_batches(batches * 2)
    writing.execute("PRAGMA max_page_count = 1000000")

    assert store.write_batches(batches) == 12_000
    column = store.read_window(Window(Slot(START), Slot(START + 12)))
    assert column.values.shape == (1000, 12)
    assert (column.values == range(12)).all()


def test_a_locked_file_is_waited_for_and_no_longer(path: pathlib.Path) -> None:
    """Another process's lock makes a write wait; after the store's deadline it is an error, and nothing is stored."""
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()"
    )
    with (
        opened(path, timeout_seconds=0.2) as store,
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"

        with pytest.raises(StoreUnavailableError, match="another process has kept it locked for 0"):
            store.write(observed(BTC, 1.0))

        assert store.list_series() == ()
        other.communicate()
        store.write(observed(BTC, 1.0))
        assert store.list_series() == (BTC,)


def test_a_thread_is_waited_for_and_no_longer(path: pathlib.Path) -> None:
    """A write by another thread that hangs makes a write fail at its deadline; later the same call works."""
    writing, go_on = threading.Event(), threading.Event()

    class Hanging(ManualClock):
        """Asked for the time within the transaction, it hangs in the first write."""

        def now(self) -> float:
            if threading.current_thread() is not threading.main_thread():
                writing.set()
                assert go_on.wait(timeout=60)
            return super().now()

    with open_store(f"sqlite:{path}", clock=Hanging(NOON), timeout_seconds=0.2) as store:
        thread = threading.Thread(target=store.write, args=(observed(BTC, 1.0),))
        thread.start()
        assert writing.wait(timeout=60)
        with pytest.raises(StoreUnavailableError, match="another thread has been writing for 0"):
            store.write(observed(ETH, 1.0))
        go_on.set()
        thread.join()

        store.write(observed(ETH, 1.0))
        assert store.list_series() == (BTC, ETH)


def test_readers_do_not_wait_for_a_lock(store: MetricStore, path: pathlib.Path) -> None:
    """While another process writes, what was committed before is read at once."""
    store.write(observed(BTC, 1.0))
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM blocks")

        assert store.read_series(BTC, Window(NOON_SLOT, Slot(NOON_SLOT + 1))).values.tolist() == [1.0]


def test_a_newer_schema_is_refused(path: pathlib.Path) -> None:
    """A file that a newer Tickwatch has written is not touched by an older one, which says what to do."""
    opened(path).close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        (version,) = raw.execute("PRAGMA user_version").fetchone()
        raw.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(StoreRefusedError) as caught:
        opened(path)

    assert str(caught.value) == (
        f"sqlite:{path}: its schema is 99, and this version of Tickwatch knows schemas up to {version}; "
        "upgrade Tickwatch, or name another file"
    )
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(path: pathlib.Path) -> None:
    """A database with tables that are not ours is left alone."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()

    with pytest.raises(StoreRefusedError, match="another program's database; name a file of Tickwatch's own"):
        opened(path)

    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(path: pathlib.Path) -> None:
    """A text file is left alone."""
    path.write_text("metric,measure,time,value\n" * 100)

    with pytest.raises(StoreRefusedError, match="not a database"):
        opened(path)

    assert path.read_text().startswith("metric,measure")


def test_a_refused_file_is_let_go(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file is refused for, no connection to it stays open, however long the error is kept."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remembered(*of: Any, **named: Any) -> sqlite3.Connection:
        made.append(connect(*of, **named))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", remembered)
    path.write_text("metric,measure,time,value\n" * 100)

    with pytest.raises(StoreRefusedError) as caught:
        opened(path)

    assert caught.value.__cause__ is not None
    assert len(made) == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        made[0].execute("SELECT 1")


def test_a_folder_is_refused(tmp_path: pathlib.Path) -> None:
    """A path that is a folder, or leads through a file, is named."""
    with pytest.raises(StoreRefusedError, match="this is a folder; name a file in it"):
        opened(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreRefusedError, match="cannot make its folder"):
        opened(tmp_path / "file" / "tickwatch.db")


def test_an_older_schema_is_brought_up_to_date(path: pathlib.Path) -> None:
    """A file of the first schema opens, keeps what it has, and has the present schema afterwards."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.executescript(schema.MIGRATIONS[0])
        raw.execute("INSERT INTO store VALUES ('0123456789abcdef', 0, 0)")
        raw.execute(f"PRAGMA application_id = {schema.APPLICATION}")
        raw.execute("PRAGMA user_version = 1")

    with opened(path) as store:
        store.write(observed(ETH, 2.0))
        assert store.mark().startswith("sqlite.0123456789abcdef.")
        assert rows_of(store.read_since(Mark("sqlite.0123456789abcdef.0")).points) == [
            (ETH, NOON_SLOT, 2.0, Quality.OBSERVED)
        ]
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


def test_processes_that_open_one_new_file_agree(path: pathlib.Path) -> None:
    """Processes that start together on a new file agree on one identity."""
    command = [
        sys.executable,
        "-c",
        f"from services.core.store.opening import open_store\nprint(open_store('sqlite:{path}').mark())",
    ]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    marks = {process.communicate(timeout=60)[0].strip() for process in started}

    assert len(marks) == 1
    assert marks != {""}


def test_a_file_that_becomes_ours_meanwhile_is_not_taken_for_anothers(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opener that finds the new file empty, and a moment later with another opener's tables, opens it too."""
    raced = []

    class Racing(sqlite3.Connection):
        """Lets another opener in between the questions whose file this is and which tables it has."""

        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if "sqlite_schema" in sql and not raced:
                raced.append(sql)
                with contextlib.suppress(StoreUnavailableError):
                    opened(path, timeout_seconds=0.1).close()
            return super().execute(sql, *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *of, **named: connect(*of, **named, factory=Racing))

    with opened(path) as store:
        store.write(observed(BTC, 1.0))
        assert raced
        assert store.list_series() == (BTC,)
