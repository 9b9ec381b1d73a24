"""The published client of alerts against a real server."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import aclosing

import pytest
import tickwatch

from services.alerter.streams.cursors import cursor_text
from services.core.breaches import Position, ResolvedReason, Subject
from services.core.model import Slot
from services.core.streaming import WatchTimes
from tests.support.alerter import LogWriter, breach, many, resolved, serve
from tests.support.query import LAST, make_store


@pytest.fixture
def store():
    """A memory store at `NOW`."""
    return make_store()


@pytest.fixture
def writer(store):
    """The writer of the store's log."""
    return LogWriter(store.breach_log)


def at(slot: int) -> dt.datetime:
    """Return a slot's start."""
    return dt.datetime.fromtimestamp(slot * 60, dt.UTC)


async def test_a_watch_yields_plain_values(store, writer):
    """A snapshot, events and bookmarks come as dataclasses of strings, numbers and datetimes; None is what is not."""
    opening = breach(labels={"team": "desk"})
    writer.append(opening)
    times = WatchTimes(bookmark_seconds=0.02)
    async with (
        serve(store, watch_times=times) as service,
        tickwatch.AlertClient(service.server.address) as client,
        aclosing(client.watch_breaches(bookmarks=True)) as watch,
        asyncio.timeout(20),
    ):
        snapshot = await anext(watch)
        bookmark = await anext(watch)
        whole = breach(subject=Subject("SIM"), value=float("nan"), baseline=float("nan"), ratio=float("nan"))
        writer.append(resolved(opening, LAST + 1, ResolvedReason.CALM), whole, evaluated=LAST + 1)
        events = []
        while len(events) < 2:
            item = await anext(watch)
            if isinstance(item, tickwatch.Event):
                events.append(item)

    assert isinstance(snapshot, tickwatch.Snapshot)
    assert isinstance(bookmark, tickwatch.Bookmark)
    (episode,) = snapshot.episodes
    assert (episode.state, episode.breach_count, episode.last_breach_time) == ("open", 1, at(LAST))
    assert snapshot.evaluated_time == bookmark.evaluated_time == at(LAST + 1)
    assert episode.opening == tickwatch.Event(
        id=opening.id,
        kind="breach",
        rule="three-times-the-hour",
        rule_version="0123456789ab",
        severity="warning",
        exchange="SIM",
        metric="SIM:AAA",
        measure="price",
        time=at(LAST),
        episode_id=opening.episode_id,
        opened_time=at(LAST),
        opening=True,
        late=False,
        value=400.0,
        baseline=100.0,
        ratio=4.0,
        threshold=300.0,
        point_count=60,
        resolved_reason=None,
        withdrawn_id="",
        message="SIM:AAA price is 4.0 times its average",
        silenced=False,
        labels={"team": "desk"},
    )
    assert (events[0].kind, events[0].resolved_reason, events[0].episode_id) == ("resolved", "calm", episode.id)
    assert (events[1].metric, events[1].measure, events[1].value, events[1].ratio) == ("", None, None, None)
    assert events[0].cursor


async def test_a_watch_outlives_its_streams(store, writer):
    """Over streams that end every few moments a watch has one snapshot, and every event once and in order."""
    times = WatchTimes(longest_seconds=0.25, bookmark_seconds=0.05)
    ids, snapshots = [], 0
    async with serve(store, watch_times=times) as service, tickwatch.AlertClient(service.server.address) as client:
        expected: list[str] = []
        started = asyncio.Event()

        async def write() -> None:
            await started.wait()
            for number in range(60):
                expected.extend(entry.event.id for entry in writer.append(breach(f"SIM:N{number}")))
                await asyncio.sleep(0.02)  # spread over several streams' lives

        task = asyncio.create_task(write())
        async with asyncio.timeout(30), aclosing(client.watch_breaches()) as watch:
            async for item in watch:
                started.set()
                snapshots += isinstance(item, tickwatch.Snapshot)
                if isinstance(item, tickwatch.Event):
                    ids.append(item.id)
                if len(ids) == 60:
                    break
        await task

    assert ids == expected
    assert snapshots == 1


async def test_a_watch_goes_on_at_another_replica(store, writer):
    """When its server stops, a watch goes on at another one, with what was appended while nobody answered."""
    retries: list[tickwatch.Error] = []
    async with serve(store) as first:
        address = first.server.address
        client = tickwatch.AlertClient(address, options=(("grpc.max_reconnect_backoff_ms", 200),))
        watch = client.watch_breaches(on_retry=lambda error, _: retries.append(error))
        assert isinstance(await anext(watch), tickwatch.Snapshot)
        writer.append(breach("SIM:ONE"))
        one = await anext(watch)
        pending = asyncio.ensure_future(anext(watch))
    writer.append(breach("SIM:TWO"), breach("SIM:THREE"))
    async with serve(store, listen=address), asyncio.timeout(20):
        two, three = await pending, await anext(watch)
        await watch.aclose()
        await client.close()

    assert [item.metric for item in (one, two, three) if isinstance(item, tickwatch.Event)] == [
        "SIM:ONE",
        "SIM:TWO",
        "SIM:THREE",
    ]


async def test_a_watch_that_cannot_be_resumed_says_so(store, writer):
    """A cursor too old is CursorExpiredError with the earliest cursor, not a silent skip and not an endless retry."""
    entries = writer.append(*many(2))
    old = cursor_text(store.breach_log.log_id(), Position(Slot(LAST - 40 * 1440), 0))
    async with serve(store) as service, tickwatch.AlertClient(service.server.address) as client:
        async with aclosing(client.watch_breaches(cursor=old)) as watch:
            with pytest.raises(tickwatch.CursorExpiredError) as error:
                await anext(watch)
        async with aclosing(client.watch_breaches(cursor=error.value.earliest_cursor)) as watch, asyncio.timeout(20):
            got = [await anext(watch) for _ in range(3)]

    assert [item.id for item in got if isinstance(item, tickwatch.Event)] == [entry.event.id for entry in entries]


async def test_lists_come_whole(store, writer):
    """The client walks pages by itself, 1000 at a time, and filters by words and times."""
    for slot in range(5):
        writer.append(*many(220, LAST + slot), evaluated=LAST + slot)
    async with serve(store) as service, tickwatch.AlertClient(service.server.address) as client:
        everything = [event async for event in client.list_breaches()]
        some = [
            event
            async for event in client.list_breaches(
                metrics=["SIM:P0000?"],
                min_severity="warning",
                delivery="episodes",
                start=at(LAST + 3),
                end=at(LAST + 4),
            )
        ]

    assert len(everything) == 1100
    assert [event.time for event in everything] == sorted((event.time for event in everything), reverse=True)
    assert len(some) == 10
    assert {event.time for event in some} == {at(LAST + 3)}


async def test_wrong_words_never_leave_the_client():
    """A severity, delivery, measure or condition that is not known is refused with those that are."""
    async with tickwatch.AlertClient("127.0.0.1:1") as client:
        with pytest.raises(tickwatch.InvalidInputError, match=r"min_severity: 'bad' .*info, warning, critical"):
            await anext(client.watch_breaches(min_severity="bad"))
        with pytest.raises(tickwatch.InvalidInputError, match=r"delivery: 'all' .*every_breach, episodes"):
            await anext(client.list_breaches(delivery="all"))
        with pytest.raises(tickwatch.InvalidInputError, match=r"rule.ratio.mode: 'odd' .*magnitude, literal"):
            await client.test_rule(tickwatch.Rule("x", tickwatch.Ratio(mode="odd")))
        with pytest.raises(tickwatch.InvalidInputError, match=r"measure: 'prize' .*price"):
            await client.explain("x", "A:B", "prize")
        with pytest.raises(tickwatch.InvalidInputError, match=r"metrics: 'KRAKEN:\*' is one text .*\['KRAKEN:\*'\]"):
            await anext(client.watch_breaches(metrics="KRAKEN:*"))
        with pytest.raises(tickwatch.InvalidInputError, match=r"rules: 'x' is one text"):
            await anext(client.list_breaches("x"))
        with pytest.raises(tickwatch.InvalidInputError, match=r"selector.metrics: 'A:B' is one text"):
            await client.test_rule(tickwatch.Rule("x", tickwatch.Ratio(), tickwatch.Selector(metrics="A:B")))  # type: ignore[arg-type]
        with pytest.raises(tickwatch.InvalidInputError, match=r"ids: '0123' is one text"):
            await client.resend_dead_letters("0123")
        with pytest.raises(tickwatch.InvalidInputError, match=r"length: '5m' is no span of time .*timedelta"):
            await client.create_silence("5m")  # type: ignore[arg-type]
        with pytest.raises(tickwatch.InvalidInputError, match="no time zone"):
            await anext(client.list_breaches(start=dt.datetime(2026, 1, 1)))  # noqa: DTZ001 - the very point


async def test_a_watch_of_a_wrong_address_fails():
    """A watch that never reached anybody says so after the client's timeout instead of trying for ever."""
    async with tickwatch.AlertClient("127.0.0.1:1", timeout_seconds=0.5) as client:
        with pytest.raises(tickwatch.UnavailableError):
            async with aclosing(client.watch_breaches()) as watch, asyncio.timeout(20):
                await anext(watch)
