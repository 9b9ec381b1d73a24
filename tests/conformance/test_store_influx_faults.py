"""What the InfluxDB store does when the server is away, silent, restarted or refuses, and when a writer dies."""

from __future__ import annotations

import dataclasses
import secrets
import socket
import time

import numpy as np
import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

from services.core.clock import ManualClock
from services.core.errors import StoreRefusedError, StoreUnavailableError
from services.core.model import Measure, Outcome, Points, Quality, Run, Slot, Window
from services.core.store.base import Mark, MetricStore
from services.core.store.opening import open_store
from tests.support.buckets import own_bucket, store_url
from tests.support.influxd import running_influxd
from tests.support.needs import require_influxdb
from tests.support.stores import BTC, ETH, NOON, NOON_SLOT, backfilled, market, observed, rows_of

WINDOW = Window(Slot(NOON_SLOT - 10), NOON_SLOT)


def everything(store: MetricStore, mark: Mark) -> list[object]:
    """Every call that asks the server something."""
    return [
        lambda: store.write(observed(BTC, 1.0)),
        lambda: store.write_batches([observed(BTC, 1.0)]),
        lambda: store.record_run(Run("KRAKEN", NOON_SLOT, NOON, 1, Outcome.OK)),
        store.expire,
        store.list_series,
        lambda: store.read_window(WINDOW),
        lambda: store.read_series(BTC, WINDOW),
        store.mark,
        lambda: store.read_since(mark),
        store.newest_run_slot,
        store.latest_runs,
    ]


@pytest.fixture
def place():
    """A bucket of its own on the server that everybody shares."""
    influxdb = require_influxdb()
    with own_bucket(influxdb) as bucket:
        yield influxdb, bucket


@pytest.fixture
def store(place):
    """A store on it, at noon."""
    influxdb, bucket = place
    with open_store(store_url(influxdb, bucket), token=influxdb.token, clock=ManualClock(NOON)) as store:
        yield store


def test_a_server_that_is_away_is_a_clear_error():
    """Where nobody listens every call says so, naming the store and never the token."""
    with open_store("influxdb+http://127.0.0.1:9/o/b", token="sesame", clock=ManualClock(NOON)) as store:
        mark = Mark(f"{store._identity}.{int(NOON * 1e6)}")
        for call in everything(store, mark):
            with pytest.raises(StoreUnavailableError, match=r"influxdb\+http://127.0.0.1:9/o/b: .*refused") as caught:
                call()

            assert "sesame" not in str(caught.value) + repr(caught.value)


def test_a_silent_server_is_given_up_within_the_deadline():
    """A server that accepts and never answers costs one deadline, not more."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"influxdb+http://127.0.0.1:{silent.getsockname()[1]}/o/b"
        with open_store(url, token="t", timeout_seconds=0.3, clock=ManualClock(NOON)) as store:
            for call in everything(store, Mark(f"{store._identity}.{int(NOON * 1e6)}")):
                started = time.monotonic()
                with pytest.raises(StoreUnavailableError, match=r"no answer within 0.3 s"):
                    call()

                assert time.monotonic() - started < 10, "a deadline of 0.3 s should end long before"


def test_a_wrong_token_is_refused_with_what_to_check(place):
    """A token that is not valid is the configuration's fault, and the error says what to set."""
    influxdb, bucket = place
    with (
        open_store(store_url(influxdb, bucket), token="wrong-token", clock=ManualClock(NOON)) as store,
        pytest.raises(StoreRefusedError, match=r"unauthorized access \(the token is not valid; set INFLUXDB_V2_TOKEN"),
    ):
        store.write(observed(BTC, 1.0))


def test_a_missing_bucket_is_refused_with_what_to_check(place):
    """A bucket that is not there is the configuration's fault, reading or writing."""
    influxdb, _ = place
    with open_store(store_url(influxdb, "nowhere"), token=influxdb.token, clock=ManualClock(NOON)) as store:
        for call in (lambda: store.write(observed(BTC, 1.0)), store.list_series, store.mark):
            with pytest.raises(StoreRefusedError, match="no such organisation or bucket"):
                call()


def test_a_failed_write_is_completed_by_its_repetition(store, monkeypatch):
    """A write whose second request fails raises; made again it leaves what an undisturbed one leaves."""
    sent = []
    real = store._bucket._writes.write

    def failing(bucket, org, body, precision):
        sent.append(body)
        if len(sent) == 2:
            raise ConnectionResetError("cut off")
        return real(bucket, org, body, precision)

    monkeypatch.setattr(store._bucket._writes, "write", failing)
    mark = store.mark()
    with pytest.raises(StoreUnavailableError, match="cut off"):
        store.write(observed(BTC, 1.0, 2.0, start=NOON_SLOT - 2))

    assert store.list_series() == ()
    store.write(observed(BTC, 1.0, 2.0, start=NOON_SLOT - 2))

    assert [row[2] for row in rows_of(store.read_since(mark).points)] == [1.0, 2.0]


def test_points_of_a_killed_writer_are_followed(store, monkeypatch):
    """A writer that dies after its points and before saying so loses nothing to a follower that marked before it."""
    mark = store.mark()
    sent = []
    real = store._bucket._writes.write

    def dying(bucket, org, body, precision):
        sent.append(body)
        if len(sent) == 3:
            raise KeyboardInterrupt
        return real(bucket, org, body, precision)

    monkeypatch.setattr(store._bucket._writes, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        store.write(observed(BTC, 1.0))
    monkeypatch.undo()

    first = store.read_since(mark)
    again = store.read_since(first.mark)

    assert [row[2] for row in rows_of(first.points)] == [1.0]
    assert rows_of(again.points) == rows_of(first.points), "it may still be under way, so it is read again"


def test_of_a_killed_wide_write_little_is_read_again(store, monkeypatch):
    """A run that dies in its middle makes followers read a part of its span at each poll, and none of it is missed."""
    store.write(market(80, NOON_SLOT - 720, 720))
    mark = store.mark()
    sent = []
    real = store._bucket._writes.write

    def dying(bucket, org, body, precision):
        sent.append(body)
        if len(sent) == 9:
            raise KeyboardInterrupt
        return real(bucket, org, body, precision)

    monkeypatch.setattr(store._bucket._writes, "write", dying)
    run = market(80, NOON_SLOT - 720, 721)
    run = dataclasses.replace(run, values=run.values + 1000)
    with pytest.raises(KeyboardInterrupt):
        store.write(run)
    monkeypatch.undo()

    first = store.read_since(mark)
    again = store.read_since(first.mark)

    stored = store.read_window(Window(Slot(NOON_SLOT - 720), Slot(NOON_SLOT + 1))).values
    assert np.count_nonzero(stored > 500) == np.count_nonzero(first.points.values > 500)
    assert len(again.points) <= 1 << 17 < len(first.points)


def test_a_hole_far_back_is_announced_by_itself(store):
    """A run that mends one metric's hole beside its own slot of many metrics makes nobody read what lies between."""
    store.write(market(400, NOON_SLOT - 720, 720, measures=[Measure.PRICE]))
    mark = store.mark()
    own, hole = market(400, NOON_SLOT, 1, measures=[Measure.PRICE]), market(1, NOON_SLOT - 700, 60)
    store.write(Points.concatenate([own, hole]))
    slots = store.read_since(mark).points.slots

    assert set(slots.tolist()) == {*range(NOON_SLOT - 700, NOON_SLOT - 640), NOON_SLOT}


def test_a_bulk_load_says_done_of_what_has_arrived(store, monkeypatch):
    """Of batches whose points failed none is said to be done, so that a follower reads it again at each poll."""
    sent = []
    real = store._bucket._writes.write

    def failing(bucket, org, body, precision):
        sent.append(body)
        if body.startswith(b"metric,") and b"pair=ETHUSD" in body:
            raise ConnectionResetError("cut off")
        return real(bucket, org, body, precision)

    monkeypatch.setattr(store._bucket._writes, "write", failing)
    mark = store.mark()
    with pytest.raises(StoreUnavailableError, match="cut off"):
        store.write_batches([observed(BTC, 1.0), observed(ETH, 2.0), observed(BTC, 3.0)])

    spoken_of = [
        (name, done)
        for body in sent
        for name in (b"BTCUSD", b"ETHUSD")
        for done in (b"true", b"false")
        if body.startswith(b"write,") and name in body and done in body
    ]
    assert spoken_of.count((b"BTCUSD", b"true")) == 1
    assert spoken_of.count((b"ETHUSD", b"true")) == 0
    monkeypatch.undo()
    first = store.read_since(mark)
    store.write(observed(ETH, 2.0))

    assert {row[0] for row in rows_of(store.read_since(first.mark).points)} == {BTC, ETH}


def test_a_finished_write_is_read_once(store):
    """What was read since a mark is not read again since the next, though the clock stands still."""
    mark = store.mark()
    store.write(observed(BTC, 1.0))
    changes = store.read_since(mark)

    assert len(changes.points) == 1
    assert len(store.read_since(changes.mark).points) == 0


def test_writes_of_one_moment_are_followed_each(store, monkeypatch):
    """A write to which the clock and chance give the moment of an earlier one is not taken for that one."""
    monkeypatch.setattr(secrets, "randbelow", lambda _: 0)
    mark = store.mark()
    store.write(observed(BTC, 1.0))
    mark = store.read_since(mark).mark
    store.write(observed(ETH, 2.0))

    assert rows_of(observed(ETH, 2.0)) == rows_of(store.read_since(mark).points)


def test_a_follower_elsewhere_reads_the_overlap_again(store, place):
    """A mark taken by another process misses nothing; what was written shortly before may come again."""
    influxdb, bucket = place
    store.write(observed(ETH, 7.0))
    mark = store.mark()
    store.write(observed(BTC, 1.0))
    with open_store(store_url(influxdb, bucket), token=influxdb.token, clock=ManualClock(NOON)) as other:
        rows = rows_of(other.read_since(mark).points)

    assert {row[0] for row in rows} == {BTC, ETH}


def test_a_writer_whose_clock_is_behind_is_followed(store, place):
    """Up to the overlap, a writer with a slow or fast clock is followed like any other."""
    influxdb, bucket = place
    for offset in (-240.0, 240.0):
        mark = store.mark()
        behind = ManualClock(NOON + offset)
        with open_store(store_url(influxdb, bucket), token=influxdb.token, clock=behind) as other:
            other.write(backfilled(BTC, offset, start=NOON_SLOT - 20))

        assert [row[2:] for row in rows_of(store.read_since(mark).points)] == [(offset, Quality.BACKFILLED)]


def test_names_from_users_are_never_flux(store):
    """A metric's name that would end a string or begin a comment is only a name nobody has."""
    store.write(observed(BTC, 1.0, start=NOON_SLOT - 1))
    for name in (
        'KRAKEN:BTCUSD" or true //',
        "KRAKEN:${r.pair}",
        'X:"])|>yield()',
        "KRAKEN:\\",
        "KRAKEN:BTC\nUSD",
        ":",
    ):
        columns = store.read_series(type(BTC)(name, BTC.measure), WINDOW)

        assert np.isnan(columns.values).all()


def test_a_server_restarted_under_a_reader(tmp_path):
    """While the server is down calls fail clearly; once it is back the same store reads and follows on."""
    with running_influxd(tmp_path) as server:
        url = store_url(server.access, server.access.bucket)
        with open_store(url, token=server.access.token, clock=ManualClock(NOON)) as store:
            mark = store.mark()
            store.write(observed(BTC, 1.0, start=NOON_SLOT - 2))
            server.stop()
            with pytest.raises(StoreUnavailableError):
                store.read_series(BTC, WINDOW)
            with pytest.raises(StoreUnavailableError):
                store.write(observed(BTC, 2.0, start=NOON_SLOT - 1))
            server.start()
            store.write(observed(BTC, 2.0, start=NOON_SLOT - 1))
            rows = rows_of(store.read_since(mark).points)

            assert [row[2] for row in rows] == [1.0, 2.0]


def test_a_buckets_own_retention_is_trusted(place):
    """Where the bucket forgets by itself nothing is deleted by hand; where it does not, once an hour."""
    influxdb, bucket = place
    clock = ManualClock(NOON)
    with (
        InfluxDBClient(influxdb.url, influxdb.token, org=influxdb.org) as client,
        open_store(store_url(influxdb, bucket), token=influxdb.token, clock=clock) as store,
    ):
        writer = client.write_api(write_options=SYNCHRONOUS)
        old = int(NOON) - 31 * 86_400

        def count() -> int:
            query = f'from(bucket: "{bucket}") |> range(start: {old - 10}, stop: {old + 10}) |> count()'
            return sum(record["_value"] for table in client.query_api().query(query) for record in table.records)

        for written, left in ((1, 0), (1, 1)):
            writer.write(bucket, influxdb.org, f"metric,exchange=A,pair=B price=1.0 {old}", write_precision="s")
            assert count() == written
            store.expire()

            assert count() == left, "the first call deletes, the second comes within the hour"
        writer.close()
