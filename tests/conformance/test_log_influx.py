"""The InfluxDB store's log against the suite, on a real server; and what is its own."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from services.core.breaches import Checkpoint
from services.core.clock import ManualClock
from services.core.errors import StoreUnavailableError
from services.core.store.base import MetricStore
from services.core.store.opening import open_store
from tests.conformance.log_suite import LogSuite, at, entries, messages
from tests.support.buckets import own_bucket, store_url
from tests.support.needs import require_influxdb


class TestInfluxBreachLog(LogSuite):
    """A place is a bucket's URL and the token."""

    @pytest.fixture
    def place(self) -> Iterator[tuple[str, str]]:
        """A bucket of its own."""
        influxdb = require_influxdb()
        with own_bucket(influxdb) as bucket:
            yield store_url(influxdb, bucket), influxdb.token

    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        assert isinstance(place, tuple)
        return open_store(place[0], token=place[1], clock=clock)

    def test_what_a_killed_writer_left_is_never_seen(
        self, place: tuple[str, str], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Entries without their checkpoint do not exist; the next writer's take their place."""
        with self.open_store(place, clock) as store:
            log = store.breach_log
            log.append(None, entries(at(), 1), Checkpoint(at(1), "one"))

            def die(*_: object) -> None:
                raise StoreUnavailableError("x", "killed")

            with monkeypatch.context() as patch:
                patch.setattr(log, "_put", die)  # the seam between entries and checkpoint
                with pytest.raises(StoreUnavailableError):
                    log.append(at(1), entries(at(1), 3, "lost "), Checkpoint(at(2), "two"))
            assert messages(log.read_after(log.earliest(), 9)) == ["0"]
            assert messages(log.read_before(None, 9)) == ["0"]

        with self.open_store(place, clock) as store:
            log = store.breach_log
            log.append(at(1), entries(at(1), 2, "new "), Checkpoint(at(1, 2), "two"))
            assert messages(log.read_after(log.earliest(), 9)) == ["0", "new 0", "new 1"]
            log.append(at(1, 2), [], Checkpoint(at(2), "three"))
            assert messages(log.read_before(None, 9))[-2:] == ["new 0", "0"]

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_a_leftover_never_comes_to_light(
        self, place: tuple[str, str], clock: ManualClock, monkeypatch: pytest.MonkeyPatch, count: int
    ) -> None:
        """Also where the next writer has found less in that slot, and goes on in another: nothing is there twice."""
        with self.open_store(place, clock) as store:
            log = store.breach_log
            log.append(None, entries(at(), 1), Checkpoint(at(0, 1), "one"))

            def die(*_: object) -> None:
                raise StoreUnavailableError("x", "killed")

            with monkeypatch.context() as patch:
                patch.setattr(log, "_put", die)  # the seam between entries and checkpoint
                lost = [*entries(at(0, 1), 3, "lost "), *entries(at(1), 3, "lost ")]
                with pytest.raises(StoreUnavailableError):
                    log.append(at(0, 1), lost, Checkpoint(at(1, 3), "two"))

        with self.open_store(place, clock) as store:
            log = store.breach_log
            log.append(at(0, 1), entries(at(0, 1), count, "new "), Checkpoint(at(0, 1 + count), "two"))
            log.append(at(0, 1 + count), entries(at(1), 1, "next "), Checkpoint(at(1, 1), "three"))
            log.append(at(1, 1), [], Checkpoint(at(2), "four"))
            expected = ["0", *(f"new {number}" for number in range(count)), "next 0"]
            assert messages(log.read_after(log.earliest(), 99)) == expected
            assert messages(log.read_before(None, 99)) == expected[::-1]

    def test_a_long_text_is_read_whole_or_not_at_all(self, place: tuple[str, str], clock: ManualClock) -> None:
        """While it is written again and again, in more than one piece, no reader gets a part of one and of another."""
        with self.open_store(place, clock) as writing, self.open_store(place, clock) as reading:
            ended = threading.Event()

            def write() -> None:
                for number in itertools.count():
                    if ended.is_set():
                        return
                    writing.breach_log.put_document("long", "text", f"{number:08d}" * 20_000)

            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(write)
                try:
                    found = [reading.breach_log.documents("long") for _ in range(100)]
                finally:
                    ended.set()

        texts = {text for each in found for text in each.values()}
        assert len(texts) > 10, "nobody wrote meanwhile"
        assert all(text == text[:8] * 20_000 for text in texts)

    def test_a_text_that_stays_broken_is_an_error(self, place: tuple[str, str], clock: ManualClock) -> None:
        """What is not what its digest says is never taken for a text."""
        with self.open_store(place, clock) as store:
            log: Any = store.breach_log
            log.append(None, [], Checkpoint(at(), "one"))
            log._bucket.send(
                f'alerting,kind=checkpoint,key=log text0="{{}}" {log._today()}'.encode(), "s"
            )  # somebody else's hand
            with pytest.raises(StoreUnavailableError, match="no reading of it was whole"):
                log.checkpoint()

    def test_a_failed_append_is_completed_by_repeating(
        self, place: tuple[str, str], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever of its requests fails, nothing is seen; the same call again has it all."""
        with self.open_store(place, clock) as store:
            log = store.breach_log
            log.append(None, [], Checkpoint(at(), "one"))
            for failing in (1, 2):
                send: Any = log._bucket.send  # type: ignore[attr-defined]  # the seam to the server
                calls = iter(range(1, 99))

                def fail(
                    body: str, precision: str, send: Any = send, calls: Any = calls, failing: int = failing
                ) -> None:
                    if next(calls) == failing:
                        raise StoreUnavailableError("x", "away")
                    send(body, precision)

                with monkeypatch.context() as patch:
                    patch.setattr(log._bucket, "send", fail)  # type: ignore[attr-defined]
                    with pytest.raises(StoreUnavailableError):
                        log.append(at(), entries(at(), 3), Checkpoint(at(1), "two"))
                assert log.read_before(None, 9) == ()
            log.append(at(), entries(at(), 3), Checkpoint(at(1), "two"))
            assert messages(log.read_before(None, 9)) == ["2", "1", "0"]

    def test_users_read_breaches_in_flux(self, place: tuple[str, str], clock: ManualClock) -> None:
        """Measurement `breach` has plain fields beside the event, for dashboards of one's own."""
        with self.open_store(place, clock) as store:
            store.breach_log.append(None, entries(at(), 1), Checkpoint(at(1), "one"))
            rows: Any = store._bucket.rows(  # type: ignore[attr-defined]  # a user would ask by himself
                "from(bucket: bucket) |> range(start: 2020-01-01T00:00:00Z)"
                ' |> filter(fn: (r) => r._measurement == "breach")',
                {},
            )
        found = {row["_field"]: row["_value"] for row in rows}
        assert (found["rule"], found["metric"], found["measure"]) == ("three-times", "KRAKEN:BTCUSD", "price")
        assert (found["value"], found["baseline"]) == ("301.5", "100")
