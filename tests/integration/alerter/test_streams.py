"""WatchBreaches: a snapshot, every event once, and bookmarks; from any replica, and from any cursor on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from tickwatch.v1 import alert_pb2 as wire
from tickwatch.v1 import alert_pb2_grpc, query_pb2

from services.alerter.streams import following
from services.alerter.streams.cursors import cursor_text
from services.core.breaches import EventKind, Position, ResolvedReason, Severity, Subject
from services.core.clock import ManualClock
from services.core.errors import StoreUnavailableError
from services.core.model import Measure, Slot
from services.core.rpc import convert_alerts
from services.core.streaming import WatchTimes
from tests.support.alerter import (
    AlertService,
    LogWriter,
    Stream,
    breach,
    ids,
    many,
    read,
    read_events,
    read_on,
    resolved,
    serve,
    stale,
    withdrawn,
)
from tests.support.query import LAST, NOW, Wrong, eventually, failure, make_store, outcome, read_error


@pytest.fixture
def store():
    """A memory store at `NOW`."""
    return make_store()


@pytest.fixture
def writer(store):
    """The writer of the store's log, which has evaluated everything up to `LAST`."""
    return LogWriter(store.breach_log)


async def open_watch(service: AlertService, **request: Any) -> Stream:
    """Open a stream and take its snapshot."""
    stream = service.watch(**request)
    assert (await read(stream)).WhichOneof("content") == "snapshot"
    return stream


async def test_a_stream_begins_with_the_open_episodes(store, writer):
    """The first message is a snapshot: what is open, since when, how often it has breached, and how far that goes."""
    opening = breach(slot=LAST - 2)
    gone = breach("SIM:GONE", LAST - 2)
    writer.append(opening, gone, breach("SIM:BBB", LAST - 2), evaluated=LAST)
    writer.append(
        breach(slot=LAST - 1, opened=LAST - 2), stale(breach("SIM:BBB", LAST - 2), LAST), resolved(gone, LAST)
    )
    async with serve(store) as service:
        first = await read(service.watch())

    assert first.snapshot.evaluated_time.seconds == (LAST + 1) * 60
    assert [(episode.opening.metric, episode.state) for episode in first.snapshot.episodes] == [
        ("SIM:AAA", wire.SERIES_STATE_OPEN),
        ("SIM:BBB", wire.SERIES_STATE_STALE),
    ]
    open_one = first.snapshot.episodes[0]
    assert (open_one.id, open_one.breach_count) == (opening.episode_id, 2)
    assert open_one.last_breach_time.seconds == (LAST - 1) * 60
    assert open_one.opening.id == opening.id
    assert first.cursor


async def test_an_event_carries_its_evidence(store, writer):
    """Every field of an event arrives as it was found; numbers that do not apply are absent, not zero."""
    event = breach(slot=LAST, labels={"team": "desk"}, silenced=True, severity=Severity.CRITICAL)
    whole = breach(slot=LAST, subject=Subject("SIM"), value=float("nan"), baseline=float("nan"), ratio=float("nan"))
    async with serve(store) as service:
        stream = await open_watch(service)
        writer.append(event, whole, resolved(event, LAST, ResolvedReason.REBASED))
        first, second, third = [message.event for message in await read_events(stream, 3)]

    assert first == wire.Event(
        id=event.id,
        kind=wire.EVENT_KIND_BREACH,
        rule="three-times-the-hour",
        rule_version="0123456789ab",
        severity=wire.SEVERITY_CRITICAL,
        labels={"team": "desk"},
        exchange="SIM",
        metric="SIM:AAA",
        measure=query_pb2.MEASURE_PRICE,
        slot_time={"seconds": LAST * 60},
        episode_id=event.episode_id,
        opened_time={"seconds": LAST * 60},
        opening=True,
        value=400.0,
        baseline=100.0,
        ratio=4.0,
        threshold=300.0,
        point_count=60,
        message="SIM:AAA price is 4.0 times its average",
        silenced=True,
    )
    assert (second.exchange, second.metric, second.measure) == ("SIM", "", 0)
    assert not any(second.HasField(field) for field in ("value", "baseline", "ratio"))
    assert (third.kind, third.resolved_reason) == (wire.EVENT_KIND_RESOLVED, wire.RESOLVED_REASON_REBASED)
    assert third.episode_id == first.episode_id
    assert not third.opening


async def test_every_cursor_resumes_right_after_its_message(store, writer):
    """From any message's cursor, another stream brings exactly the events that followed it, in order, each once."""
    async with serve(store) as service:
        stream = await open_watch(service)
        for number in range(10):
            writer.append(breach(f"SIM:A{number}", LAST), breach(f"SIM:B{number}", LAST), evaluated=LAST + number)
        messages = await read_events(stream, 20)
        for place, message in enumerate(messages):
            resumed = await open_watch(service, cursor=message.cursor)
            rest = await read_events(resumed, 19 - place)
            behind = await read(resumed)
            resumed.cancel()

            assert ids(rest) == ids(messages[place + 1 :])
            assert [one.cursor for one in rest] == [one.cursor for one in messages[place + 1 :]]
            assert behind.WhichOneof("content") == "bookmark"


async def test_a_resumed_stream_goes_on_without_a_seam(store, writer):
    """While events keep coming, what was missed and what comes join: nothing is lost and nothing comes twice."""
    async with serve(store) as service:
        cursor = (await read(service.watch())).cursor
        for round_number in range(30):
            writer.append(
                *(breach(f"SIM:R{round_number}X{place}") for place in range(5)), evaluated=LAST + round_number
            )
            resumed = service.watch(cursor=cursor)
            writer.append(breach(f"SIM:LATER{round_number}"))
            got = ids(await read_events(resumed, 6 * (round_number + 1)))
            resumed.cancel()

            assert len(set(got)) == len(got)
            assert got == [entry.event.id for entry in store.breach_log.read_after(Position(Slot(LAST), 0), 1000)]


async def test_what_memory_has_forgotten_comes_from_the_store(store, writer, monkeypatch):
    """A cursor from before everything that the server keeps is resumed from the store, page by page."""
    start = cursor_text(store.breach_log.log_id(), writer.end)
    monkeypatch.setattr(following, "RECENT_ENTRIES", 10)
    monkeypatch.setattr("services.alerter.streams.streaming.PAGE_ENTRIES", 7)
    monkeypatch.setattr(following, "PAGE_ENTRIES", 7)
    entries = [entry for slot in range(5) for entry in writer.append(*many(10, LAST + slot), evaluated=LAST + slot)]
    async with serve(store) as service:
        stream = await open_watch(service, cursor=start)
        got = ids(await read_events(stream, 50))
        later = writer.append(*many(30, LAST + 5), evaluated=LAST + 5)
        got += ids(await read_events(stream, 30))
        again = {}
        for place in (20, 45, 75):
            cursor = cursor_text(store.breach_log.log_id(), (*entries, *later)[place].position)
            late_comer = await open_watch(service, cursor=cursor)
            again[place] = ids(await read_events(late_comer, 80 - place))

    assert got == [entry.event.id for entry in (*entries, *later)]
    assert all(events == got[place:] for place, events in again.items())


async def test_a_snapshot_leaves_out_what_the_stream_will_tell(store, writer):
    """Resumed, a stream's snapshot has the episodes open at its cursor, not those whose opening is still to come."""
    old = breach("SIM:OLD", LAST - 1)
    writer.append(old, evaluated=LAST)
    async with serve(store) as service:
        live = service.watch()
        cursor = (await read(live)).cursor
        writer.append(breach("SIM:NEW", LAST + 1), evaluated=LAST + 1)
        await read(live, "event")
        stream = service.watch(cursor=cursor)
        snapshot = await read(stream)
        event, bookmark = await read(stream, "event"), await read(stream, "bookmark")

    assert [episode.opening.metric for episode in snapshot.snapshot.episodes] == ["SIM:OLD"]
    assert snapshot.cursor == cursor
    assert snapshot.snapshot.evaluated_time.seconds <= (LAST + 1) * 60
    assert event.event.metric == "SIM:NEW"
    assert bookmark.bookmark.evaluated_time.seconds == (LAST + 2) * 60


def expired(error: grpc.RpcError) -> dict[str, str]:
    """Return the metadata of a CURSOR_EXPIRED."""
    assert read_error(error)[:2] == ("OUT_OF_RANGE", "CURSOR_EXPIRED")
    assert isinstance(error, grpc.aio.AioRpcError)
    trailers = dict(error.trailing_metadata() or ())
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
    return dict(info.metadata)


async def test_a_cursor_that_cannot_be_continued_says_where_to_begin(store, writer):
    """Too old, of another log, or ahead of the log: OUT_OF_RANGE, with the earliest cursor, which resumes."""
    entries = writer.append(*many(3))
    log_id = store.breach_log.log_id()
    wrong = {
        "older than the log": cursor_text(log_id, Position(Slot(LAST - 40 * 1440), 0)),
        "of another log": cursor_text("ab" * 16, writer.end),
        "ahead of the log's end": cursor_text(log_id, Position(Slot(writer.end.slot), writer.end.ordinal + 1)),
    }
    async with serve(store) as service:
        for words, cursor in wrong.items():
            with pytest.raises(grpc.aio.AioRpcError, match=words) as error:
                await read(service.watch(cursor=cursor))
            earliest = expired(error.value)["earliest_cursor"]
            stream = await open_watch(service, cursor=earliest)

            assert ids(await read_events(stream, 3)) == [entry.event.id for entry in entries]


async def test_what_is_no_cursor_is_refused(store, writer):
    """Garbage, a mangled cursor and one cut short are INVALID_CURSOR."""
    good = cursor_text(store.breach_log.log_id(), writer.end)
    garbage = ["nonsense", good[:-1], good + "A", good[:20] + ("A" if good[20] != "A" else "B") + good[21:], "é", " "]
    async with serve(store) as service:
        wrongs = [await failure(service.watch(cursor=cursor).read()) for cursor in garbage]

    assert {wrong[:3] for wrong in wrongs} == {("INVALID_ARGUMENT", "INVALID_CURSOR", "cursor")}


async def test_every_replica_continues_every_cursor(store, writer):
    """Two servers on one log tell the same events under the same cursors, and one continues what the other began."""
    async with serve(store) as one, serve(store) as other, serve(store, poll_interval_seconds=3600) as sleepy:
        streams = [await open_watch(one), await open_watch(other)]
        writer.append(*many(5))
        told = [[(m.event.id, m.cursor) for m in await read_events(stream, 5)] for stream in streams]
        # A replica that has not yet read what another has already sent must not call its cursor one from the future.
        stream = await open_watch(sleepy, cursor=told[0][2][1])
        rest = ids(await read_events(stream, 2))
        writer.append(breach("SIM:NEXT"))
        sleepy.server.poke()
        after = ids(await read_events(stream, 1))

    assert told[0] == told[1]
    assert rest == [event for event, _ in told[0][3:]]
    assert after == [breach("SIM:NEXT").id]


async def test_the_writers_own_process_need_not_wait_for_a_poll(store, writer):
    """Poked, a server reads the log at once however long its poll interval is."""
    async with serve(store, poll_interval_seconds=3600) as service:
        stream = await open_watch(service)
        writer.append(breach())
        service.server.poke()
        (message,) = await read_events(stream, 1)

    assert message.event.id == breach().id


async def test_silence_is_broken_by_bookmarks_that_say_how_far_rules_have_been_evaluated(store, writer):
    """Where nothing happens, bookmarks come, with a later time as evaluation goes on."""
    async with serve(store, watch_times=WatchTimes(bookmark_seconds=0.02)) as service:
        stream = await open_watch(service)
        first = (await read(stream, "bookmark")).bookmark.evaluated_time.seconds
        writer.append(evaluated=LAST + 7)
        async with asyncio.timeout(20):
            while (message := await read(stream)).bookmark.evaluated_time.seconds == first:
                pass

    assert first == (LAST + 1) * 60
    assert message.bookmark.evaluated_time.seconds == (LAST + 8) * 60


MIXED = [
    breach("SIM:AAA"),
    breach("SIM:AAA", LAST + 1, LAST),
    breach("SIM:BBB", severity=Severity.CRITICAL),
    breach("KRAKEN:AAA", rule="other", severity=Severity.INFO),
    breach(subject=Subject("KRAKEN"), rule="missing"),
    stale(breach("SIM:AAA"), LAST + 2),
    breach("SIM:LATE", late=True),
    withdrawn(breach("SIM:AAA", LAST + 1, LAST)),
    withdrawn(breach("SIM:BBB", severity=Severity.CRITICAL)),
    resolved(breach("SIM:AAA"), LAST + 3, late=True),
]
FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4, 5, 8, 9]),
    ({"include_late": True}, list(range(10))),
    ({"delivery": wire.DELIVERY_EVERY_BREACH, "include_late": True}, list(range(10))),
    ({"delivery": wire.DELIVERY_EPISODES}, [0, 2, 3, 4, 5, 8, 9]),
    ({"delivery": wire.DELIVERY_EPISODES, "include_late": True}, [0, 2, 3, 4, 5, 6, 8, 9]),
    ({"rules": ["other", "missing"]}, [3, 4]),
    ({"metrics": ["SIM:BBB"]}, [2, 8]),
    ({"metrics": ["KRAKEN:AAA"]}, [3]),
    ({"metrics": ["KRAKEN:*"]}, [3, 4]),
    ({"metrics": ["*:A?A", "SIM:BBB"], "min_severity": wire.SEVERITY_WARNING}, [0, 1, 2, 5, 8, 9]),
    ({"min_severity": wire.SEVERITY_CRITICAL}, [2, 8]),
    ({"min_severity": wire.SEVERITY_INFO, "rules": ["nobody"]}, []),
]


@pytest.mark.parametrize(("request_fields", "places"), FILTERS)
async def test_filters_hold_for_what_comes_and_for_what_was_missed(store, writer, request_fields, places):
    """Rules, metrics, severity, delivery and lateness narrow a stream, live and resumed alike."""
    end = breach("SIM:END", rule="nobody", severity=Severity.CRITICAL)
    wanted = [MIXED[place].id for place in places]
    everything = wire.WatchBreachesRequest(**request_fields)
    if everything.metrics:
        everything.metrics.append("SIM:END")
    if everything.rules:
        everything.rules.append("nobody")
    async with serve(store) as service:
        live = service.stub.WatchBreaches(everything)
        cursor = (await read(live)).cursor
        writer.append(*MIXED, end)
        got = ids(await read_events(live, len(wanted) + 1))
        everything.cursor = cursor
        resumed = ids(await read_events(service.stub.WatchBreaches(everything), len(wanted) + 1))

    assert got == resumed == [*wanted, end.id]


async def test_the_snapshot_is_filtered_too(store, writer):
    """Only episodes of the rules, metrics and severities asked for are in it; late ones are there as well."""
    writer.append(breach("SIM:AAA"), breach("SIM:BBB", late=True), breach("KRAKEN:BBB", rule="other"))
    async with serve(store) as service:
        of_sim = await read(service.watch(metrics=["SIM:*"]))
        of_rule = await read(service.watch(rules=["other"]))
        of_severity = await read(service.watch(min_severity=wire.SEVERITY_CRITICAL))

    names = [[episode.opening.metric for episode in one.snapshot.episodes] for one in (of_sim, of_rule, of_severity)]
    assert names == [["SIM:AAA", "SIM:BBB"], ["KRAKEN:BBB"], []]


async def test_one_stream_too_many_is_refused(store, writer):
    """Beyond the limit a stream is TOO_MANY_STREAMS with a time to come back; one that ends makes room."""
    async with serve(store, max_streams=3) as service:
        streams = [await open_watch(service) for _ in range(3)]
        refused = await failure(service.watch().read())
        streams[0].cancel()

        async def again() -> object:
            return await outcome(service.watch().read())

        await eventually(again, lambda answer: isinstance(answer, wire.WatchBreachesResponse))

    assert refused[:2] == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
    assert refused.retry_seconds == 5


async def test_a_slow_reader_is_ended_alone_with_his_cursor(store, writer):
    """Who does not read ends with SLOW_SUBSCRIBER and a cursor from which all the rest comes; others notice nothing."""
    message = "x" * 2000
    async with serve(store, queue_batches=3) as service:
        options = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
        async with grpc.aio.insecure_channel(service.server.address, options=options) as narrow:
            slow: Stream = alert_pb2_grpc.AlertServiceStub(narrow).WatchBreaches(wire.WatchBreachesRequest())
            await read(slow, "snapshot")
            quick = await open_watch(service)
            sent: list[str] = []
            for number in range(60):
                events = [breach(f"SIM:R{number}X{place}", LAST, LAST - 1, message=message) for place in range(20)]
                sent += [entry.event.id for entry in writer.append(*events)]
                assert ids(await read_events(quick, 20)) == sent[-20:]
            had = []
            while isinstance(answer := await outcome(slow.read()), wire.WatchBreachesResponse):
                had.append(answer)
        resumed = await open_watch(service, cursor=had[-1].cursor)
        rest = ids(await read_events(resumed, 1200 - len(had)))

    assert isinstance(answer, Wrong)
    assert answer[:2] == ("RESOURCE_EXHAUSTED", "SLOW_SUBSCRIBER")
    assert len(had) < 1200
    assert ids(had) + rest == sent


async def test_streams_end_well_with_a_bookmark(store, writer):
    """At its greatest age, and when its server stops, a stream ends OK; its last message is a bookmark."""
    async with serve(store, watch_times=WatchTimes(longest_seconds=0.05)) as service:
        old = service.watch()
        at_its_age = await read_on(old)
        assert await old.code() == grpc.StatusCode.OK
    async with serve(store) as service:
        stream = await open_watch(service)
        (entry,) = writer.append(breach())
        await read_events(stream, 1)
        await service.server.drain()
        at_the_end = await read_on(stream)

        assert await stream.code() == grpc.StatusCode.OK
    assert at_its_age[-1].WhichOneof("content") == at_the_end[-1].WhichOneof("content") == "bookmark"
    assert at_the_end[-1].cursor == cursor_text(store.breach_log.log_id(), entry.after)


async def test_cancelled_streams_leave_nothing(store, writer):
    """500 streams opened and cancelled leave no thread and no subscriber."""
    async with serve(store) as service:
        for _ in range(10):
            streams = [await open_watch(service) for _ in range(50)]
            for stream in streams:
                stream.cancel()

            async def open_streams() -> int:
                return sum(thread.name.startswith("tickwatch-stream") for thread in threading.enumerate())

            await eventually(open_streams, lambda count: count == 0)

        assert len(service.server.broadcast) == 0


async def test_whoever_watches_learns_at_once_that_he_is_connected(store, writer):
    """The initial metadata comes before the store has answered what the cursor has missed."""
    cursor = cursor_text(store.breach_log.log_id(), Position(Slot(LAST), 0))
    async with serve(store) as service:
        live = await open_watch(service)
        writer.append(*many(3))
        await read_events(live, 3)
        asked, answered = threading.Event(), threading.Event()
        read_after = store.breach_log.read_after

        def hesitate(position, limit):
            if threading.current_thread().name.startswith("tickwatch-stream"):
                asked.set()
                assert answered.wait(20)
            return read_after(position, limit)

        store.breach_log.read_after = hesitate
        service.server._follower._recent_from = None  # memory has forgotten everything
        stream = service.watch(cursor=cursor)
        async with asyncio.timeout(20):
            await stream.initial_metadata()
            await asyncio.to_thread(asked.wait, 20)
            answered.set()
        got = await read_events(stream, 3)

    assert len(got) == 3


async def test_nobody_is_served_before_evaluation_has_caught_up(store):
    """An empty log, and one whose evaluation ended long ago, are NOT_READY and NOT_SERVING; then all is well."""
    clock = ManualClock(NOW)
    async with serve(store, wait=False, clock=clock) as service:
        empty = await failure(service.watch().read())
        writer = LogWriter(store.breach_log, LAST - 10)

        async def begun() -> Wrong:
            return await failure(service.watch().read())

        behind = await eventually(begun, lambda wrong: "present" in wrong.message)
        serving_behind = service.server.serving
        writer.append(evaluated=LAST)
        async with asyncio.timeout(20):
            await service.server.ready()
        await open_watch(service)
        serving_now = service.server.serving
        clock.advance(600)

        async def serving() -> bool:
            return service.server.serving

        await eventually(serving, lambda so: not so)
        still = await read(service.watch())

    assert {wrong[:2] for wrong in (empty, behind)} == {("UNAVAILABLE", "NOT_READY")}
    assert (serving_behind, serving_now) == (False, True)
    assert still.snapshot.evaluated_time.seconds == (LAST + 1) * 60


async def test_another_log_in_its_place_ends_the_streams(store, writer):
    """When the store's log is suddenly another one, streams end OUT_OF_RANGE with the new log's earliest cursor."""
    other = make_store()
    LogWriter(other.breach_log, LAST - 1)
    async with serve(store) as service:
        stream = await open_watch(service)
        log = store.breach_log
        for method in ("checkpoint", "log_id", "read_before", "read_after", "earliest"):
            setattr(log, method, getattr(other.breach_log, method))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await read_on(stream)
        new = await read(service.watch())

    earliest = expired(error.value)["earliest_cursor"]
    assert earliest == cursor_text(other.breach_log.log_id(), other.breach_log.earliest())
    assert new.snapshot.evaluated_time.seconds == LAST * 60


async def test_a_store_that_goes_away_loses_nothing(store, writer):
    """While the log cannot be read, streams stay open; when it answers again they have everything, in order."""
    log = store.breach_log
    checkpoint = log.checkpoint
    async with serve(store) as service:
        stream = await open_watch(service)

        def away():
            raise StoreUnavailableError("memory:", "away")

        log.checkpoint = away

        async def failures() -> int:
            return service.server._follower._failures

        await eventually(failures, bool)
        log.checkpoint = checkpoint
        entries = writer.append(*many(5), evaluated=LAST + 1)
        got = ids(await read_events(stream, 5))

    assert got == [entry.event.id for entry in entries]


def test_kinds_are_all_told():
    """No kind of event, reason or measure is missing from the wire's tables."""
    for kind in EventKind:
        assert convert_alerts.to_wire_event(breach(kind=kind)).kind
    for reason in ResolvedReason:
        assert convert_alerts.to_wire_event(breach(reason=reason)).resolved_reason
    for severity in Severity:
        assert convert_alerts.to_wire_event(breach(severity=severity)).severity == severity
    for measure in Measure:
        assert convert_alerts.to_wire_event(breach(subject=Subject("A", "A:B", measure))).measure
