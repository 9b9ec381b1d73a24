"""The small parts between wire and window: kept answers, the gate to the store, the broadcast, packed columns."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from tickwatch.v1 import query_pb2 as wire

from services.core import broadcasting
from services.core.broadcasting import Batch, Broadcast
from services.core.errors import DeadlineTooShortError, NotReadyError, StoreUnavailableError, TooManyStreamsError
from services.core.model import Measure, Points, Quality, Series
from services.core.rpc.convert import from_wire_slots, packed_doubles, to_wire_duration, varint
from services.core.rpc.interceptors import StreamLimit, StreamThreads
from services.core.store.base import Mark
from services.core.store.gate import StoreGate
from services.query.answers import Answers
from services.query.querying import nearest
from tests.support.query import make_market, make_store, unserved

POINTS = Points.of([(Series("SIM:A", Measure.PRICE), 1, 1.0, Quality.OBSERVED)])


@given(st.lists(st.floats(allow_nan=True), max_size=300))
def test_packed_columns_are_protobuf_s_own(values: list[float]) -> None:
    """Bytes made from an array's memory parse to the same values, NaN and infinities too, after any other field."""
    head = wire.GetHistoryResponse(coverage=0.5).SerializeToString()
    parsed = wire.GetHistoryResponse.FromString(head + packed_doubles(3, np.array(values, float)))

    assert parsed.coverage == 0.5
    assert len(parsed.values) == len(values)
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(parsed.values, values, strict=True))


@given(st.integers(0, 2**63 - 1))
def test_varints_are_protobuf_s_own(number: int) -> None:
    """A number encodes as protobuf encodes it."""
    assert wire.TimeRange.FromString(b"\x0a" + varint(len(b"\x08" + varint(number))) + b"\x08" + varint(number)) == (
        wire.TimeRange(start_time={"seconds": number})
    )


@given(st.integers(1, 1440))
def test_durations_of_whole_slots_come_back(slots: int) -> None:
    """A duration of whole minutes is read as its number of slots."""
    assert from_wire_slots(to_wire_duration(slots), "interval", 1, 1440) == slots
    assert from_wire_slots(Duration(seconds=slots * 60), "interval", 1, 1440) == slots


def test_answers_live_for_a_generation() -> None:
    """What was made is found by method and request until the generation ends; an error is not kept."""
    answers = Answers()

    assert answers.find(1, "A", b"r") is None
    assert answers.make(1, "A", b"r", lambda: b"answer") == b"answer"
    assert answers.find(1, "A", b"r") == b"answer"
    assert answers.find(1, "B", b"r") is None
    assert answers.find(2, "A", b"r") is None
    with pytest.raises(ZeroDivisionError):
        answers.make(2, "A", b"x", lambda: bytes(1 // 0))
    assert answers.find(2, "A", b"x") is None
    assert answers.find(1, "A", b"r") is None


def test_answers_are_bounded() -> None:
    """More than their bytes are never kept, whoever asks for what."""
    answers = Answers(most_bytes=1000)
    for number in range(500):
        answers.make(1, "A", str(number).encode(), lambda: b"x" * 100)
        assert answers.size_bytes <= 1000
        assert answers.find(1, "A", str(number).encode())

    assert answers.make(1, "A", b"big", lambda: b"x" * 2000) == b"x" * 2000
    assert answers.find(1, "A", b"big") is None


def test_an_answer_of_an_ended_generation_is_not_kept_for_the_next() -> None:
    """Who computes while the generation ends does not put an old answer among the new ones."""
    answers = Answers()

    def compute() -> bytes:
        answers.make(2, "A", b"other", lambda: b"new")
        return b"old"

    assert answers.make(1, "A", b"r", compute) == b"old"
    assert answers.find(2, "A", b"r") is None
    assert answers.find(2, "A", b"other") == b"new"


def test_the_gate_lets_few_in_and_nobody_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """One permit: the second waits no longer than it may; after a failure all are refused at once for a while."""
    now = [100.0]
    monkeypatch.setattr("services.core.store.gate.time.monotonic", lambda: now[0])
    monkeypatch.setattr("services.core.store.gate._LONGEST_WAIT_SECONDS", 0.01)
    gate = StoreGate("test:", 1)

    assert gate.read(lambda: 5, 10) == 5
    with pytest.raises(DeadlineTooShortError, match="10 ms are left"):
        gate.read(lambda: 5, 0.01)

    def second() -> int:
        with pytest.raises(StoreUnavailableError, match="earlier reads have not ended"):
            gate.read(lambda: 6, 10)
        return 7

    assert gate.read(second, 10) == 7
    asked = []
    with pytest.raises(StoreUnavailableError, match="a moment ago"):
        gate.read(lambda: asked.append(1), 10)
    now[0] += 1.5

    def fail() -> None:
        raise StoreUnavailableError("test:", "timed out")

    with pytest.raises(StoreUnavailableError, match="timed out"):
        gate.read(fail, 10)
    with pytest.raises(StoreUnavailableError, match="a moment ago"):
        gate.read(lambda: asked.append(1), 10)
    now[0] += 1.5
    assert gate.read(lambda: 8, 10) == 8
    assert not asked


def test_a_subscriber_gets_what_follows_his_mark() -> None:
    """Batches come in order with the marks around them; polls without news move the mark alone."""
    broadcast = Broadcast()
    with pytest.raises(NotReadyError, match="still loading"):
        broadcast.subscribe(lambda: None)
    broadcast.restart(Mark("m0"))
    subscriber = broadcast.subscribe(lambda: None)
    broadcast.publish(POINTS, Mark("m1"))
    broadcast.publish(Points.of([]), Mark("m2"))
    broadcast.publish(POINTS, Mark("m3"))
    batches = [subscriber.take(0), subscriber.take(0)]

    assert subscriber.start == "m0"
    assert [(b.before, b.after) for b in batches if isinstance(b, Batch)] == [("m0", "m1"), ("m2", "m3")]
    assert subscriber.take(0) == "m3"
    broadcast.close()
    assert subscriber.take(10) is None
    with pytest.raises(NotReadyError, match="stopping"):
        broadcast.subscribe(lambda: None)


def test_all_who_wait_are_woken_though_some_do_not_read_and_some_leave() -> None:
    """Each batch reaches every reader that waits for it, however many others have theirs queued or end meanwhile."""
    broadcast = Broadcast()
    broadcast.restart(Mark("m0"))
    everybody = [broadcast.subscribe(lambda: None) for _ in range(24)]
    reading, leaving = everybody[1::2], everybody[3::6]
    taken: dict[int, list[object]] = {place: [] for place in range(len(reading))}
    arrived = threading.Semaphore(0)

    def read(place: int) -> None:
        while (batch := reading[place].take(60)) is not None:
            taken[place].append(batch.after if isinstance(batch, Batch) else batch)
            arrived.release()

    threads = [threading.Thread(target=read, args=(place,)) for place in range(len(reading))]
    for thread in threads:
        thread.start()
    marks = [Mark(f"m{number}") for number in range(1, 21)]
    came = []
    for mark in marks[:5]:  # each when all wait again
        broadcast.publish(POINTS, mark)
        came += [arrived.acquire(timeout=30) for _ in reading]
    for mark in marks[5:10]:
        broadcast.publish(POINTS, mark)
    for subscriber in leaving:
        subscriber.end()
    for mark in marks[10:]:
        broadcast.publish(POINTS, mark)
    to_come = 5 * len(leaving) + 15 * (len(reading) - len(leaving))
    came += [arrived.acquire(timeout=30) for _ in range(to_come)]
    broadcast.close()
    for thread in threads:
        thread.join(60)

    assert all(came)
    assert not any(thread.is_alive() for thread in threads)
    for place, subscriber in enumerate(reading):
        assert taken[place] == (marks[:10] if subscriber in leaving else marks)


def test_a_full_queue_drops_its_subscriber_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overflow ends one subscriber, is counted once, and cancels the call if it is stuck after the grace."""
    now = [0.0]
    monkeypatch.setattr("services.core.broadcasting.time.monotonic", lambda: now[0])
    drops, cancelled = [], []
    broadcast = Broadcast(lambda: drops.append(1), capacity=2)
    broadcast.restart(Mark("m0"))
    slow, quick = broadcast.subscribe(lambda: cancelled.append("slow")), broadcast.subscribe(lambda: None)
    for number in range(1, 6):
        broadcast.publish(POINTS, Mark(f"m{number}"))
        assert isinstance(quick.take(0), Batch)
    broadcast.reap()
    early = list(cancelled)
    now[0] += broadcasting.SLOW_GRACE_SECONDS + 1
    broadcast.reap()

    assert slow.overflowed
    assert not quick.overflowed
    assert slow.take(0) is None
    assert drops == [1]
    assert (early, cancelled) == ([], ["slow"])
    broadcast.unsubscribe(slow)
    broadcast.unsubscribe(slow)
    assert len(broadcast) == 1


def test_stream_threads_end_with_their_task() -> None:
    """Each task has a thread of its own, which is gone when it is done; shutting down waits for all."""
    threads, release = StreamThreads("tickwatch-test"), threading.Event()
    futures = [threads.submit(release.wait, 10) for _ in range(20)]
    running = sum(thread.name.startswith("tickwatch-test") for thread in threading.enumerate())
    release.set()
    failing = threads.submit(lambda: 1 // 0)
    threads.shutdown(wait=True)

    assert running == 20
    assert all(future.result(0) for future in futures)
    assert isinstance(failing.exception(0), ZeroDivisionError)
    assert not any(thread.name.startswith("tickwatch-test") for thread in threading.enumerate())


def test_a_stream_limit_counts() -> None:
    """What has ended makes room; a client has its own share of it."""
    limit = StreamLimit(3, per_client=2)
    with limit.admitted("a"), limit.admitted("a"):
        with pytest.raises(TooManyStreamsError, match="2 streams to a, its limit for one client"), limit.admitted("a"):
            pass
        with limit.admitted("b"):
            with pytest.raises(TooManyStreamsError, match="3 streams, its limit"), limit.admitted("c"):
                pass
            assert limit.open == 3
    assert limit.open == 0
    with limit.admitted("a"):
        assert limit.open == 1


def test_nearest_names() -> None:
    """Names of the same exchange or pair come first; nothing is made up where nothing is like it."""
    known = frozenset({"KRAKEN:BTCUSD", "KRAKEN:ETHUSD", "COINBASE:BTCUSD"})

    assert nearest("KRAKEN:BTCUS", known)[0] == "KRAKEN:BTCUSD"
    assert nearest("COINBSE:BTCUSD", known)[0] == "COINBASE:BTCUSD"
    assert nearest("X:Y", frozenset()) == ()


def test_costly_answers_are_made_once_for_all_who_wait() -> None:
    """Threads that ask for the same list together wait for the first and get its answer."""
    made = unserved(make_store(make_market(["SIM:AAA"])))
    made.follower.step()
    begun, release, computed = threading.Event(), threading.Event(), []

    class Patient:
        """A context with time."""

        def time_remaining(self) -> float:
            return 10.0

    def compute(request: bytes, context: object) -> bytes:
        computed.append(1)
        begun.set()
        release.wait(10)
        return b"answer"

    handler = made.servicer._kept("ListMetrics", compute)
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(handler(b"r", Patient()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    release.set()
    for thread in threads:
        thread.join()

    assert computed == [1]
    assert got == [b"answer"] * 8


def test_a_call_that_waited_too_long_is_not_begun() -> None:
    """A call whose deadline has passed gets nothing computed, though bytes at hand would still be given."""
    made = unserved(make_store(make_market(["SIM:AAA"])))
    made.follower.step()

    class Late:
        """A context whose deadline has passed."""

        def time_remaining(self) -> float:
            return 0.0

    with pytest.raises(DeadlineTooShortError):
        made.servicer._kept("ListMetrics", lambda *_: b"never")(b"", Late())
