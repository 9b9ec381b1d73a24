"""Webhooks over real HTTP on loopback: order, repetition, dead letters, restarts; time is moved by hand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate

import pytest
from prometheus_client import CollectorRegistry

from services.alerter.notifying import delivering
from services.alerter.notifying.dead_letters import QUEUED_KIND, DeadLetter, DeadLetters
from services.alerter.notifying.delivering import CURSOR_KIND, Deliverer
from services.alerter.notifying.heartbeat import Switch
from services.alerter.notifying.notifier import HttpSender, Notifier
from services.alerter.notifying.webhooks import Receiver
from services.core.breach_documents import event_from_document
from services.core.breaches import Event, LogEntry, Severity
from services.core.clock import ManualClock
from services.core.errors import StoreUnavailableError
from services.core.store.base import BreachLog
from services.core.telemetry import NotifierMetrics
from tests.support.alerter import LogWriter, breach, many, resolved, stale, withdrawn
from tests.support.query import LAST, NOW, make_store
from tests.support.receiver import Fault, ReceiverServer, Reply

SECRET = b"open-sesame-open-sesame"
INTERVAL = 5.0


@pytest.fixture
def clock() -> ManualClock:
    """A clock that tests move."""
    return ManualClock(NOW)


@pytest.fixture
def log(clock: ManualClock) -> BreachLog:
    """A log of breaches."""
    return make_store(clock=clock).breach_log


@pytest.fixture
def writer(log: BreachLog) -> LogWriter:
    """The one who appends to it."""
    return LogWriter(log)


@pytest.fixture
async def server() -> AsyncIterator[ReceiverServer]:
    """A receiver that takes everything."""
    async with ReceiverServer() as running:
        yield running


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where numbers are counted."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> NotifierMetrics:
    """The numbers."""
    return NotifierMetrics(registry)


@pytest.fixture
async def send(clock: ManualClock) -> AsyncIterator[HttpSender]:
    """Real HTTP."""
    async with HttpSender(clock) as sender:
        yield sender


Make = Callable[..., Deliverer]


@pytest.fixture
def make(log: BreachLog, clock: ManualClock, metrics: NotifierMetrics, send: HttpSender) -> Make:
    """Return a new deliverer, as a process that has just started has it."""

    def deliverer(receiver: Receiver, leads: Callable[[], bool] = lambda: True) -> Deliverer:
        letters = DeadLetters(log, clock)
        return Deliverer(
            receiver, log, letters, send, clock=clock, metrics=metrics, poll_interval_seconds=INTERVAL, leads=leads
        )

    return deliverer


def receiver(server: ReceiverServer, name: str = "ops", **options: object) -> Receiver:
    """Return a receiver at that server."""
    return Receiver(name, server.url, SECRET, **{"episodes_only": False, **options})


async def begin(deliverer: Deliverer) -> Deliverer:
    """Have it take its place at the log's present end."""
    await deliverer.step()
    return deliverer


async def pass_time(deliverer: Deliverer, clock: ManualClock, seconds: float) -> None:
    """Let so many seconds go by, stepping when it is due and at the end."""
    end = clock.now() + seconds
    while (wait := await deliverer.step()) < end - clock.now():
        clock.advance(wait)
    clock.set(end)
    await deliverer.step()


def ids(entries: list[LogEntry]) -> list[str]:
    """Return the events' ids."""
    return [entry.event.id for entry in entries]


def letters_of(log: BreachLog, clock: ManualClock) -> tuple[DeadLetter, ...]:
    """Return the dead letters."""
    return DeadLetters(log, clock).list()


# What is sent.


async def test_an_event_is_sent_as_signed_json(server, make, writer):
    """One POST an event: the event's document and the receiver's name, a key, a timestamp, a signature.

    The signature is checked as docs/webhooks.md tells receivers to, by code that shares nothing with ours.
    """
    deliverer = await begin(make(receiver(server)))
    (entry,) = writer.append(breach(labels={"team": "märkte"}))

    await deliverer.step()

    (request,) = server.requests
    event = entry.event
    assert (request.method, request.target) == ("POST", "/hooks/token-of-this-hook?channel=alerts")
    assert request.document["receiver"] == "ops"
    assert event_from_document(request.document) == event
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "tickwatch"
    assert request.key == event.id
    timestamp = request.headers["x-tickwatch-timestamp"]
    assert timestamp == str(int(NOW))
    signed = hmac.new(SECRET, timestamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-tickwatch-signature"] == "v1=" + signed
    assert {"cookie", "authorization", "traceparent"}.isdisjoint(request.headers)


async def test_the_verifier_of_the_page_takes_what_is_sent_and_nothing_else(server, make, writer):
    """The lines of Python in docs/webhooks.md verify a request, and refuse it changed, old, or signed otherwise."""
    from tests.support.needs import ROOT  # noqa: PLC0415  only here

    page = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    scope: dict[str, Callable[..., bool]] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], scope)  # noqa: S102  our own page
    verify = scope["is_genuine"]
    deliverer = await begin(make(receiver(server)))
    writer.append(breach())
    await deliverer.step()
    (request,) = server.requests
    headers = {name.title(): value for name, value in request.headers.items()}

    assert verify(SECRET, headers, request.body, now=NOW + 299)
    assert not verify(SECRET, headers, request.body, now=NOW + 302)
    assert not verify(SECRET, headers, request.body, now=NOW - 302)
    assert not verify(SECRET, headers, request.body + b" ", now=NOW)
    assert not verify(b"other", headers, request.body, now=NOW)
    assert not verify(SECRET, {**headers, "X-Tickwatch-Timestamp": str(int(NOW) + 1)}, request.body, now=NOW)


async def test_events_come_in_the_order_of_the_log(server, make, writer):
    """Four hundred events, more than are read at once, arrive each once and in order."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(*many(2 * delivering.PAGE_ENTRIES + 1))

    await deliverer.step()

    assert server.keys == ids(entries)


async def test_who_leads_no_more_sends_nothing_more(server, make, writer):
    """Asked before each request: what another leader sends now is not sent from here, too."""
    deliverer = await begin(make(receiver(server), lambda: len(server.requests) < 2))
    entries = writer.append(*many(4))

    await deliverer.step()
    await deliverer.step()

    assert server.keys == ids(entries[:2])
    await make(receiver(server)).step()
    assert server.keys == ids(entries)


async def test_a_new_receiver_gets_no_history_but_what_is_open(server, make, writer):
    """It begins at the present end of the log, and is told first which episodes are open there."""
    writer.append(*many(3), resolved(many(3)[1], LAST))
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(breach("SIM:NEW"))

    await deliverer.step()

    assert server.keys == [many(3)[0].id, many(3)[2].id, *ids(entries)]


async def test_a_new_receiver_is_told_of_all_that_is_open_though_it_is_killed(server, make, writer, log):
    """Its place counts as reached only with the last of the openings: who dies between them tells them again."""
    writer.append(*many(2))
    server.script = [200, 503]
    await make(receiver(server)).step()
    assert log.documents(CURSOR_KIND) == {}

    deliverer = make(receiver(server))
    await deliverer.step()
    entries = writer.append(breach("SIM:NEW"))
    await deliverer.step()

    assert server.keys[2:] == [*(event.id for event in many(2)), *ids(entries)]


@pytest.mark.parametrize("early", [True, False])
async def test_of_the_history_only_what_is_still_open_is_told(*, server, make, log, early):
    """What was found in slots before the log's opening is no news, whether it was found before or after the opening."""
    before = LAST - 10
    over, still_open = breach("SIM:OVER", before), breach("SIM:OPEN", before)
    if early:
        await begin(make(receiver(server)))
    writer = LogWriter(log, before - 1, live_from=LAST)
    deliverer = make(receiver(server))
    writer.append(over, still_open, evaluated=before)
    await deliverer.step()
    assert server.keys == [], "the history is still being evaluated"

    writer.append(resolved(over, before + 1), evaluated=LAST - 1)
    await deliverer.step()
    later = breach("SIM:LATER", before + 2, late=True)
    entries = writer.append(later, resolved(later, before + 3, late=True), breach("SIM:NEW"), evaluated=LAST)
    await deliverer.step()

    assert server.keys == [still_open.id, entries[-1].event.id]


async def test_of_the_history_a_checkpoint_is_read_once_a_page(*, server, make, log, monkeypatch):
    """A checkpoint may be megabytes and a first day thousands of events: what is open is asked once for each page."""
    await begin(make(receiver(server)))
    pages, before = 3, LAST - 10
    writer = LogWriter(log, before - 1, live_from=LAST)
    openings = many(pages * delivering.PAGE_ENTRIES, before)
    over, still_open = openings[:-2], openings[-2:]
    ends = [resolved(each, before + 1) for each in over]
    writer.append(*openings, evaluated=before)
    writer.append(*ends, evaluated=LAST)
    read, asked = log.checkpoint, []
    monkeypatch.setattr(log, "checkpoint", lambda: asked.append(1) or read())

    await make(receiver(server)).step()

    assert server.keys == [each.id for each in still_open]
    # As many pages of ends as of openings; before the first it is asked if all is evaluated, and where the log ends.
    assert len(asked) == 2 * pages + 2


async def test_what_is_over_when_a_receiver_answers_again_is_not_told(*, server, make, log, clock):
    """Of the history: an opening that it failed to take is told only if it is still one."""
    await begin(make(receiver(server)))
    before = LAST - 10
    writer = LogWriter(log, before - 1, live_from=LAST)
    over, still_open = breach("SIM:OVER", before), breach("SIM:OPEN", before)
    writer.append(over, still_open, evaluated=LAST)
    deliverer = make(receiver(server))
    server.script = [503]
    pause = await deliverer.step()

    writer.append(resolved(over, LAST - 1, late=True))
    clock.advance(pause)
    await deliverer.step()

    # Whether a request that failed was taken nobody knows, so that its end is told.
    assert server.keys == [over.id, still_open.id, resolved(over, LAST - 1).id]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("new", [False, True])
async def test_the_end_of_what_was_told_of_the_history_is_told(*, server, make, log, restart, new):
    """Late points end an episode before the log's opening: who was told of it hears that, of others nothing."""
    if not new:
        await begin(make(receiver(server)))
    before = LAST - 10
    ends, moves, never = breach("SIM:ENDS", before), breach("SIM:MOVES", before), breach("SIM:NEVER", before)
    writer = LogWriter(log, before - 1, live_from=LAST)
    writer.append(ends, moves, never, resolved(never, before + 1), evaluated=LAST)
    deliverer = make(receiver(server))
    await deliverer.step()
    assert server.keys == [ends.id, moves.id]

    if restart:
        deliverer = make(receiver(server))
    moved, end = breach("SIM:MOVES", before + 1, late=True), resolved(ends, before + 1, late=True)
    gone = withdrawn(resolved(never, before + 1)), resolved(never, before + 2, late=True)
    writer.append(end, *gone, withdrawn(moves), moved)
    await deliverer.step()
    writer.append(withdrawn(end), resolved(ends, before + 2, late=True), resolved(moved, before + 3, late=True))
    await deliverer.step()

    told = server.keys[2:]
    assert told == [
        end.id,
        withdrawn(moves).id,
        moved.id,
        withdrawn(end).id,
        resolved(ends, before + 2).id,
        resolved(moved, before + 3).id,
    ]


async def test_who_takes_over_from_one_that_died_while_it_told_tells_the_end(*, server, make, log, monkeypatch):
    """That a receiver is told of an episode is noted before the request: who dies after it leaves nobody waiting."""
    await begin(make(receiver(server)))
    before = LAST - 10
    writer = LogWriter(log, before - 1, live_from=LAST)
    opening = breach("SIM:OPEN", before)
    writer.append(opening, evaluated=LAST)
    dying = make(receiver(server))
    with monkeypatch.context() as patch:
        patch.setattr(dying, "_done", lambda _entry: (_ for _ in ()).throw(asyncio.CancelledError))
        with pytest.raises(asyncio.CancelledError):
            await dying.step()
    end = resolved(opening, before + 1, late=True)
    writer.append(end)

    await make(receiver(server)).step()

    assert server.keys == [opening.id, end.id]


async def test_what_comes_late_into_the_history_is_told_while_it_is_open(server, make, log):
    """Each page is judged by a checkpoint that has its openings, though one was read for the page before."""
    await begin(make(receiver(server)))
    before = LAST - 10
    writer = LogWriter(log, before - 1, live_from=LAST)
    writer.append(breach("SIM:OPEN", before), evaluated=LAST)
    deliverer = make(receiver(server))
    await deliverer.step()
    assert len(server.keys) == 1

    over, still_open = breach("SIM:OVER", before + 1, late=True), breach("SIM:LATE", before + 2, late=True)
    writer.append(over, still_open, resolved(over, before + 2, late=True))
    await deliverer.step()

    assert server.keys == [breach("SIM:OPEN", before).id, still_open.id]


async def test_a_receiver_of_an_empty_log_gets_its_first_events(server, make, log):
    """Where nothing has ever been evaluated, all that comes is news, even if it comes while nobody notifies."""
    await begin(make(receiver(server)))
    entries = LogWriter(log).append(breach())

    await make(receiver(server)).step()

    assert server.keys == ids(entries)


async def test_what_a_receiver_does_not_want_is_not_sent(server, make, writer, log):
    """Severity, rules by glob, delivery; what is silenced is sent to nobody. The cursor moves past all of it."""
    opening = breach("SIM:AAA", severity=Severity.CRITICAL)
    further = breach("SIM:AAA", LAST + 1, opened=LAST, severity=Severity.CRITICAL)
    sent = [
        opening,
        stale(opening, LAST + 2),
        resolved(opening, LAST + 9),
        breach("SIM:BBB", severity=Severity.WARNING, late=True),
        withdrawn(breach("SIM:BBB")),
    ]
    left_out = [
        further,
        breach("SIM:CCC", severity=Severity.INFO),
        breach("SIM:DDD", severity=Severity.CRITICAL, rule="missing"),
        breach("SIM:EEE", severity=Severity.CRITICAL, silenced=True),
    ]
    deliverer = await begin(
        make(receiver(server, episodes_only=True, min_severity=Severity.WARNING, rules=("frozen", "three-*")))
    )
    writer.append(*left_out[:2], *sent, *left_out[2:])

    await deliverer.step()

    assert server.keys == [event.id for event in sent]
    assert [request.document["late"] for request in server.requests] == [False, False, False, True, True]
    slot, ordinal = json.loads(log.documents(CURSOR_KIND)["ops"]).values()
    assert (slot, ordinal) == writer.end


# What fails for a while.


@pytest.mark.parametrize("answer", [500, 502, 503, 429, 408, 425, Fault.CUT])
async def test_what_may_succeed_later_is_sent_again(*, server, make, writer, clock, registry, answer):
    """No or a broken answer, 408, 425, 429 and 5xx: again, after about 1, 2, 4 s, with the same key, not overtaken."""
    deliverer = await begin(make(receiver(server)))
    server.script = [answer] * 3
    entries = writer.append(*many(2))

    waits = [await deliverer.step()]
    assert await deliverer.step() == waits[0]
    assert server.keys == ids(entries[:1])
    clock.advance(waits[0])
    while len(server.requests) < 4:
        waits.append(await deliverer.step())
        clock.advance(waits[-1])

    assert server.keys == ids([entries[0]] * 4 + entries[1:])
    for wait, most in zip(waits, (1, 2, 4), strict=False):
        assert most / 2 <= wait <= most
    assert len({request.headers["x-tickwatch-timestamp"] for request in server.requests[:4]}) > 1
    assert registry.get_sample_value("tickwatch_notifications_retried_total", {"receiver": "ops"}) == 3
    assert registry.get_sample_value("tickwatch_notifications_delivered_total", {"receiver": "ops"}) == 2


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP])
async def test_an_answer_that_does_not_come_in_time_is_none(*, server, make, writer, log, clock, fault):
    """The time limit is one for the whole request, so an answer that trickles in is none either."""
    deliverer = await begin(make(receiver(server, timeout_seconds=0.1, retry_seconds=0)))
    server.script = [fault]
    entries = writer.append(*many(2))

    await deliverer.step()

    assert server.keys == ids(entries)
    (letter,) = letters_of(log, clock)
    assert letter.error == "no answer within 0.1 s"


async def test_the_status_alone_says_that_an_event_was_taken(server, make, writer, log, clock):
    """200 and a connection that breaks within the text is a delivery."""
    deliverer = await begin(make(receiver(server)))
    server.script = [Fault.HALF]
    entries = writer.append(*many(2))

    await deliverer.step()

    assert server.keys == ids(entries)
    assert letters_of(log, clock) == ()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_receiver_that_says_when_is_not_asked_before(*, server, make, writer, clock, status, form):
    """Retry-After is honoured in both its forms, to the second."""
    deliverer = await begin(make(receiver(server)))
    header = "90" if form == "seconds" else formatdate(NOW + 90, usegmt=True)
    server.script = [Reply(status, headers={"Retry-After": header})]
    writer.append(breach())

    assert await deliverer.step() == 90
    clock.advance(89.9)
    assert await deliverer.step() == pytest.approx(0.1)
    assert len(server.requests) == 1
    clock.advance(0.2)
    await deliverer.step()
    assert len(server.requests) == 2


async def test_a_receiver_cannot_put_us_off_for_more_than_an_hour(server, make, writer):
    """A Retry-After of a year counts as an hour."""
    deliverer = await begin(make(receiver(server)))
    server.script = [Reply(503, headers={"Retry-After": "31536000"})]
    writer.append(breach())

    assert await deliverer.step() == 3600


async def test_the_pause_grows_to_five_minutes_and_is_forgotten_after_success(server, make, writer, clock):
    """Pauses double up to five minutes; the next failure after a success begins with a second again."""
    deliverer = await begin(make(receiver(server)))
    server.always = 503
    writer.append(breach())

    waits = []
    for _ in range(12):
        waits.append(await deliverer.step())
        clock.advance(waits[-1])
    assert all(150 <= wait <= 300 for wait in waits[-3:])
    server.always = 200
    await deliverer.step()
    server.always = 503
    writer.append(breach("SIM:BBB"))

    assert await deliverer.step() <= 1


async def test_a_clock_that_is_set_back_prolongs_no_pause(server, make, writer, clock):
    """After the clock went back by a day, the pause still ends after the seconds that it was meant to last."""
    deliverer = await begin(make(receiver(server)))
    server.script = [503]
    writer.append(breach())
    await deliverer.step()

    clock.advance(-86_400)
    wait = await deliverer.step()
    assert wait <= 1
    clock.advance(wait)
    await deliverer.step()

    assert len(server.requests) == 2


async def test_a_receiver_that_was_away_for_long_gets_everything_when_it_is_back(server, make, writer, clock, log):
    """Down for 50 minutes while 50 episodes open: nothing is lost, nothing overtakes, nothing comes twice."""
    deliverer = await begin(make(receiver(server)))
    await server.down()
    entries = []
    for minute in range(50):
        entries += writer.append(breach(f"SIM:M{minute}", LAST + minute), evaluated=LAST + minute)
        await pass_time(deliverer, clock, 60)
    assert deliverer.lag_seconds == pytest.approx(clock.now() - (LAST + 1) * 60)

    await server.up()
    await pass_time(deliverer, clock, 300)

    assert server.keys == ids(entries)
    assert deliverer.lag_seconds == 0
    assert letters_of(log, clock) == ()


async def test_what_a_receiver_is_away_too_long_for_goes_to_the_dead_letters(
    *, server, make, writer, clock, log, registry
):
    """Away for three hours: what is over an hour old is given up, after an attempt each; the younger events wait."""
    deliverer = await begin(make(receiver(server)))
    await server.down()
    entries = []
    for minute in range(180):
        entries += writer.append(breach(f"SIM:M{minute}", LAST + minute), evaluated=LAST + minute)
        await pass_time(deliverer, clock, 60)

    dead = letters_of(log, clock)
    assert all(letter.attempt_count >= 1 and letter.error.startswith("no connection") for letter in dead)
    assert ids(entries[: len(dead)]) == [letter.event.id for letter in sorted(dead, key=lambda one: one.event.slot)]
    assert 115 <= len(dead) <= 121  # those over an hour old, at pauses of up to five minutes
    assert registry.get_sample_value("tickwatch_notifications_dead_total", {"receiver": "ops"}) == len(dead)

    await server.up()
    await pass_time(deliverer, clock, 300)
    assert server.keys == ids(entries[len(dead) :])


async def test_old_events_that_were_found_just_now_get_their_hour_too(server, make, writer, clock):
    """After evaluation was away for a day, a receiver that hiccups gets its events all the same."""
    deliverer = await begin(make(receiver(server)))
    clock.advance(86_400)
    entries = writer.append(breach())
    server.script = [503, 503]

    await pass_time(deliverer, clock, 10)

    assert server.keys == ids(entries * 3)


# What fails for good.


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
async def test_what_is_refused_is_a_dead_letter_and_the_next_event_goes_on(*, server, make, writer, log, clock, status):
    """Other 4xx: one attempt, kept in the receiver's own words, and nothing is held up."""
    deliverer = await begin(make(receiver(server)))
    server.script = [Reply(status, b'{"error": "no such\n channel"}')]
    entries = writer.append(*many(3))

    await deliverer.step()

    assert server.keys == ids(entries)
    (letter,) = letters_of(log, clock)
    assert (letter.receiver, letter.event.id, letter.attempt_count) == ("ops", entries[0].event.id, 1)
    assert letter.error.startswith(f"HTTP {status} ")
    assert letter.error.endswith(': {"error": "no such channel"}')
    assert letter.failed == NOW


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(*, server, make, writer, log, clock, status):
    """Where somebody points to is not where the settings say."""
    async with ReceiverServer() as elsewhere:
        deliverer = await begin(make(receiver(server)))
        server.script = [Reply(status, headers={"Location": elsewhere.url})]
        writer.append(breach())

        await deliverer.step()

        assert elsewhere.requests == []
    (letter,) = letters_of(log, clock)
    assert letter.error.startswith(f"HTTP {status} ")
    assert letter.error.endswith(": redirects are not followed")


async def test_cookies_are_not_kept(server, make, writer):
    """A receiver that sets a cookie does not get it back."""
    deliverer = await begin(make(receiver(server)))
    server.script = [Reply(200, headers={"Set-Cookie": "id=1; Path=/"})]
    writer.append(*many(2))

    await deliverer.step()

    assert len(server.requests) == 2
    assert "cookie" not in server.requests[1].headers


async def test_one_receiver_never_holds_up_another(server, log, clock, metrics, writer):
    """While one hangs and one is not there, a third gets everything."""
    async with ReceiverServer() as hanging, ReceiverServer() as absent:
        hanging.always = Fault.HANG
        await absent.down()
        everyone = [receiver(server), receiver(hanging, "hanging"), receiver(absent, "absent")]
        async with running(Notifier(log, everyone, clock=clock, metrics=metrics)) as notifier:
            await placed(log, 3)
            entries = writer.append(*many(20))
            notifier.poke()
            await server.received(20)
            await hanging.received(1)
            await asyncio.to_thread(notifier.stop, 0.1)

    assert server.keys == ids(entries)
    assert hanging.keys == ids(entries[:1])


async def test_one_event_that_cannot_be_taken_does_not_hold_up_the_others_for_ever(server, make, writer, clock, log):
    """A receiver that answers 500 to one event alone gets the next ones after an hour, in order."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(*many(3))
    server.only = {entries[0].event.id: 500}

    await pass_time(deliverer, clock, 3600 + 300)

    assert server.keys[-2:] == ids(entries[1:])
    assert [letter.event.id for letter in letters_of(log, clock)] == ids(entries[:1])
    assert letters_of(log, clock)[0].attempt_count == len(server.keys) - 2


# Restarts, and the store.


async def test_a_restart_goes_on_where_the_one_before_had_got_to(server, make, writer, clock):
    """Stopped in the middle, of a failing event even: the next process sends the rest, and nothing that was taken."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(*many(10))
    server.script = [200, 200, 200, 503]
    await deliverer.step()
    assert server.keys == ids(entries[:4])

    await make(receiver(server)).step()

    assert server.keys == ids(entries[:4] + entries[3:])


async def test_events_of_the_time_between_two_processes_are_not_lost(server, make, writer):
    """What is appended while nobody notifies is sent by the next who does."""
    await begin(make(receiver(server)))
    entries = writer.append(*many(3))

    await make(receiver(server)).step()

    assert server.keys == ids(entries)


async def test_a_process_that_dies_between_answer_and_note_repeats_with_the_same_key(server, make, writer, log):
    """At least once: the repetition is the same event under the same key."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(*many(2))
    with failing(log, "put_document"):
        await deliverer.step()
    assert server.keys == ids(entries[:1])

    await make(receiver(server)).step()

    assert server.keys == ids([entries[0], *entries])


@pytest.mark.parametrize("method", ["documents", "read_after", "put_document", "checkpoint"])
async def test_a_store_that_is_away_is_waited_for(*, server, make, writer, log, clock, method, caplog):
    """Nothing is lost, nothing comes twice from one process, and the log says it once."""
    with failing(log, method):
        deliverer = make(receiver(server))
        waits = [await deliverer.step() for _ in range(6)]
    if method == "read_after":
        assert waits == [5, 10, 20, 40, 60, 60]
    await begin(deliverer)
    entries = writer.append(*many(2))
    with failing(log, method):
        for _ in range(3):
            clock.advance(await deliverer.step())
    await deliverer.step()

    assert server.keys == ids(entries)
    warnings = [record for record in caplog.records if "does not answer" in record.getMessage()]
    assert len(warnings) <= 2


async def test_a_log_that_has_forgotten_goes_on_with_what_it_has(server, make, writer, clock, caplog):
    """A cursor older than the log's memory: said in the log, and everything that is still there is sent."""
    deliverer = await begin(make(receiver(server)))
    later = LAST + 31 * 1440
    clock.advance(31 * 86_400)
    entries = writer.append(breach("SIM:NEW", later), evaluated=later)

    await deliverer.step()

    assert server.keys == ids(entries)
    assert "has forgotten what came after" in caplog.text


async def test_a_quiet_log_does_not_outlive_its_cursor(server, make, writer, clock, caplog):
    """In a month without events the cursor moves with the evaluation: nothing is forgotten, nothing is said."""
    deliverer = await begin(make(receiver(server)))
    for day in range(1, 62):
        clock.set(NOW + day * 86_400)
        writer.append(evaluated=LAST + day * 1440)
        await deliverer.step()
    entries = writer.append(breach(slot=LAST + 61 * 1440))
    await deliverer.step()

    assert server.keys == ids(entries)
    assert "has forgotten" not in caplog.text


async def test_nothing_is_passed_over_while_a_quiet_cursor_moves(*, server, make, writer, clock, log, monkeypatch):
    """An event appended between the two questions to the log is sent."""
    deliverer = await begin(make(receiver(server)))
    clock.advance(2 * 86_400)
    writer.append(evaluated=LAST + 2880)
    checkpoint, appended = log.checkpoint, []

    def slow_checkpoint():
        found = checkpoint()
        monkeypatch.undo()
        appended.extend(writer.append(breach(slot=LAST + 2880), breach("SIM:BBB", LAST + 2880)))
        return found

    monkeypatch.setattr(log, "checkpoint", slow_checkpoint)
    await deliverer.step()
    await deliverer.step()

    assert server.keys == ids(appended)


# Dead letters, sent anew.


async def test_a_dead_letter_is_sent_anew_with_the_same_key(server, make, writer, log, clock):
    """Queued by any process, it is sent by the one that notifies, and is gone once taken."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(*many(2))
    server.script = [404, 404]
    await deliverer.step()
    letters = DeadLetters(log, clock)
    assert len(letters.list()) == 2

    assert letters.resend([letters.list()[0].id]) == 1
    await deliverer.step()
    assert letters.resend() == 1
    await deliverer.step()

    assert sorted(server.keys[2:]) == sorted(ids(entries))
    assert letters.list() == ()
    assert log.documents(QUEUED_KIND) == {}


async def test_what_is_sent_anew_does_not_hold_up_what_is_new(server, make, writer, log, clock):
    """New events go first; a letter that fails time and again goes back, with all its attempts and the newest words."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(breach())
    server.script = [404]
    await deliverer.step()
    server.only = {entries[0].event.id: Reply(500, b"still no")}
    DeadLetters(log, clock).resend()

    news = writer.append(*many(2))
    await pass_time(deliverer, clock, 120)
    news += writer.append(breach("SIM:NEW"))
    await pass_time(deliverer, clock, 120)

    (letter,) = letters_of(log, clock)
    assert (letter.attempt_count, letter.error) == (6, "HTTP 500 Internal Server Error: still no")
    assert [key for key in server.keys if key != entries[0].event.id] == ids(news)
    assert server.keys[1:3] == ids(news[:2])
    assert log.documents(QUEUED_KIND) == {}


async def test_a_letter_that_is_queued_survives_a_restart(server, make, writer, log, clock):
    """The queue is in the store."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(breach())
    server.script = [404]
    await deliverer.step()
    DeadLetters(log, clock).resend()

    await make(receiver(server)).step()

    assert server.keys == ids(entries * 2)
    assert log.documents(QUEUED_KIND) == {}


async def test_a_letter_for_nobody_goes_back(server, log, clock, metrics, writer):
    """Where a receiver was taken out of the settings, its queued letters return to the list and say so."""
    letters = DeadLetters(log, clock)
    letter = letters.add("gone", breach(), 3, "HTTP 404")
    letters.resend()
    async with running(Notifier(log, [receiver(server)], clock=clock, metrics=metrics)):
        await until(letters.list)

    (back,) = letters.list()
    assert (back.id, back.attempt_count) == (letter.id, 3)
    assert back.error == "there is no receiver of this name any more"


# Secrets.


async def test_no_secret_shows_anywhere(*, server, writer, log, clock, metrics, caplog, registry):
    """Neither the secret nor the address is in logs of any level, errors kept, numbers or representations.

    The receiver even repeats its own path and the secret in its answers.
    """
    caplog.set_level(logging.DEBUG)
    echo = b"Cannot POST /hooks/token-of-this-hook?channel=alerts with " + SECRET
    server.script = [Reply(404, echo), Reply(500, echo), Fault.CUT, 302]
    target = receiver(server)
    async with ReceiverServer() as switch_server:
        switch_server.always = Reply(404, b"no token-of-this-hook")
        switch = Switch(switch_server.url, 60)
        async with running(
            Notifier(log, [target], clock=clock, metrics=metrics, switch=switch, poll_interval_seconds=0.01)
        ) as notifier:
            await placed(log, 1)
            writer.append(*many(3))

            def go_on() -> bool:
                clock.advance(1)
                notifier.poke()
                return len(server.requests) == 5 and len(letters_of(log, clock)) == 2

            await until(go_on)
            await switch_server.received(1)

    told = " ".join(
        [
            caplog.text,
            *(letter.error for letter in letters_of(log, clock)),
            *log.documents(CURSOR_KIND).values(),
            repr(target),
            repr(switch),
            repr([metric.samples for metric in registry.collect()]),
        ]
    )
    assert "HTTP 404 Not Found: Cannot POST *** with ***" in told
    assert "a sign of life did not arrive: HTTP 404 Not Found: no ***" in told
    assert SECRET.decode() not in told
    assert "token-of-this-hook" not in told


# The thread.


async def test_a_notifier_may_be_stopped_and_started_again(*, server, writer, log, clock, metrics, registry):
    """The right to notify comes and goes: what comes meanwhile is sent afterwards, and nothing twice."""
    notifier = Notifier(log, [receiver(server)], clock=clock, metrics=metrics)
    entries = []
    for turn in range(3):
        entries += writer.append(*many(2, LAST + turn)) if turn else []
        async with running(notifier):
            await placed(log, 1)
            entries += writer.append(breach(f"SIM:T{turn}", LAST + turn))
            notifier.poke()
            await server.received(len(entries))
            assert registry.get_sample_value("tickwatch_notification_lag_seconds", {"receiver": "ops"}) is not None
        assert registry.get_sample_value("tickwatch_notification_lag_seconds", {"receiver": "ops"}) is None

    assert server.keys == ids(entries)


async def test_stopping_lets_the_request_under_way_end(server, writer, log, clock, metrics):
    """What is being sent when the notifier stops is sent once."""
    notifier = Notifier(log, [receiver(server)], clock=clock, metrics=metrics)
    release = asyncio.Event()
    answer = server._answer

    async def hesitate(request, writing):
        await release.wait()
        return await answer(request, writing)

    server._answer = hesitate
    async with running(notifier):
        await placed(log, 1)
        entries = writer.append(*many(3))
        notifier.poke()
        await server.received(1)
        stopping = asyncio.create_task(asyncio.to_thread(notifier.stop, 20))
        await asyncio.sleep(0)
        release.set()
        await stopping
    sent = len(server.requests)

    async with running(notifier):
        await server.received(3)

    assert sent <= 2  # the one under way, and one more if that had ended before the stop was seen
    assert server.keys == ids(entries)


async def test_stopping_does_not_wait_for_a_receiver_that_hangs(server, writer, log, clock, metrics):
    """A request that outlasts the grace is given up, and made again by the next who notifies."""
    server.script = [Fault.HANG]
    notifier = Notifier(log, [receiver(server)], clock=clock, metrics=metrics)
    async with running(notifier):
        await placed(log, 1)
        entries = writer.append(breach())
        notifier.poke()
        await server.received(1)
        await asyncio.to_thread(notifier.stop, 0.05)
        assert not [thread for thread in threading.enumerate() if thread.name == "tickwatch-notifier"]
    async with running(notifier):
        await server.received(2)

    assert server.keys == ids(entries * 2)


async def test_stopping_what_never_ran_or_has_just_begun_is_fine(server, log, clock, metrics):
    """Neither order of events leaves a thread behind."""
    notifier = Notifier(log, [receiver(server)], clock=clock, metrics=metrics)
    notifier.poke()
    notifier.stop()
    for _ in range(5):
        notifier.start()
        notifier.start()
        await asyncio.to_thread(notifier.stop)
    notifier.poke()


async def test_a_defect_does_not_end_a_receivers_notifications(*, server, make, writer, clock, caplog, monkeypatch):
    """What nobody has foreseen is logged with its trace, and tried again."""
    deliverer = await begin(make(receiver(server)))
    entries = writer.append(breach())
    with monkeypatch.context() as patch:
        patch.setattr(Receiver, "request", lambda *_: 1 / 0)
        assert await deliverer.step() == INTERVAL
    await deliverer.step()

    assert server.keys == ids(entries)
    assert "ZeroDivisionError" in caplog.text


# The dead man's switch.


async def test_signs_of_life_come_while_all_is_well_and_stay_away_while_it_is_not(
    server, log, clock, metrics, registry
):
    """One an interval, by POST, without a body; none while evaluation is behind; again once it is not."""
    healthy = True
    switch = Switch(server.url, 60)
    async with running(
        Notifier(
            log, [], clock=clock, metrics=metrics, switch=switch, healthy=lambda: healthy, poll_interval_seconds=0.01
        )
    ) as notifier:
        await server.received(1)
        clock.advance(59)
        notifier.poke()
        clock.advance(1.5)
        notifier.poke()
        await server.received(2)
        healthy = False
        clock.advance(60)
        notifier.poke()
        await until(lambda: registry.get_sample_value("tickwatch_heartbeats_total", {"outcome": "withheld"}))
        assert len(server.requests) == 2
        healthy = True
        clock.advance(10)
        notifier.poke()
        await server.received(3)

    assert {(request.method, request.body) for request in server.requests} == {("POST", b"")}
    assert registry.get_sample_value("tickwatch_heartbeats_total", {"outcome": "sent"}) == 3


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  another thread makes it true
            await asyncio.sleep(0.005)


async def placed(log: BreachLog, count: int) -> None:
    """Wait until so many receivers have taken their place in the log."""
    await until(lambda: len(log.documents(CURSOR_KIND)) == count)


@contextlib.asynccontextmanager
async def running(notifier: Notifier):
    """Let it notify for as long as the context lasts."""
    notifier.start()
    try:
        yield notifier
    finally:
        await asyncio.to_thread(notifier.stop, 1)


@contextlib.contextmanager
def failing(log: BreachLog, method: str):
    """Have the store away for one method."""
    real = getattr(log, method)

    def away(*_arguments):
        raise StoreUnavailableError("memory:", "does not answer")

    setattr(log, method, away)
    try:
        yield
    finally:
        setattr(log, method, real)


def test_every_event_is_sent_whole() -> None:
    """A body holds every key of the event's document, and numbers that do not apply are null."""
    _, body = Receiver("ops", "http://x/", SECRET).request(breach(value=float("nan")), NOW)

    document = json.loads(body)
    event: Event = breach(value=float("nan"))
    assert document["value"] is None
    assert document["id"] == event.id
