"""ListDeadLetters and ResendDeadLetters: whole and in pages, and what is queued."""

from __future__ import annotations

import pytest
import tickwatch
from tickwatch.v1 import alert_pb2 as wire

from services.alerter.notifying.dead_letters import DeadLetters
from tests.support.alerter import LogWriter, many, serve
from tests.support.query import NOW, failure, make_store


@pytest.fixture
def store():
    """A store whose log has begun."""
    store = make_store()
    LogWriter(store.breach_log)
    return store


def fill(letters, clock, count):
    """Keep so many letters, two of each second; return their ids, the newest first."""
    ids = []
    for place, event in enumerate(many(count)):
        clock.set(NOW + place // 2)
        ids.append(letters.add("desk", event, place + 1, f"HTTP {500 + place}"))
    return [letter.id for letter in sorted(ids, key=lambda letter: letter.key, reverse=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11, 0])
async def test_pages_of_any_size_make_the_same_list(store, size):
    """The newest comes first; none is missing or twice, also where two failed at the same moment."""
    async with serve(store) as service:
        ids = fill(DeadLetters(store.breach_log, service.clock), service.clock, 10)
        pages, request = [], wire.ListDeadLettersRequest(page_size=size)
        while True:
            answer = await service.stub.ListDeadLetters(request)
            pages.append([letter.id for letter in answer.dead_letters])
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token

    assert [letter for page in pages for letter in page] == ids
    assert all(len(page) == size for page in pages[:-1])
    assert pages[-1]


async def test_a_list_holds_still_while_letters_come_and_go(store):
    """A letter that comes is on no later page; one that is resent is missing from it, and no other."""
    async with serve(store) as service:
        letters = DeadLetters(store.breach_log, service.clock)
        ids = fill(letters, service.clock, 6)
        first = await service.stub.ListDeadLetters(wire.ListDeadLettersRequest(page_size=2))
        service.clock.set(NOW + 100)
        letters.add("desk", many(7)[-1], 1, "late")
        letters.resend([ids[3]])
        rest = await service.stub.ListDeadLetters(wire.ListDeadLettersRequest(page_token=first.next_page_token))

    assert [letter.id for letter in first.dead_letters] == ids[:2]
    assert [letter.id for letter in rest.dead_letters] == [ids[2], *ids[4:]]


async def test_letters_are_listed_with_all_that_is_known_and_queued_by_id(store):
    """What was to be told, to whom, how often it was tried, what was said last; one unknown id queues nothing."""
    async with serve(store) as service, tickwatch.AlertClient(service.server.address) as client:
        letters = DeadLetters(store.breach_log, service.clock)
        ids = fill(letters, service.clock, 4)
        newest, *_ = [letter async for letter in client.list_dead_letters()]
        unknown = await failure(service.stub.ResendDeadLetters(wire.ResendDeadLettersRequest(ids=[ids[0], "0" * 16])))
        untouched = letters.queued("desk")
        one = await client.resend_dead_letters([ids[0]])
        queued = letters.queued("desk")
        rest = await client.resend_dead_letters()
        left = [letter async for letter in client.list_dead_letters()]

    assert (newest.id, newest.receiver) == (ids[0], "desk")
    assert newest.error == f"HTTP {499 + newest.attempt_count}"
    assert newest.event.metric.startswith("SIM:P0")
    assert newest.failed_time.timestamp() == NOW + 1
    assert unknown[:2] == ("NOT_FOUND", "DEAD_LETTER_NOT_FOUND")
    assert (untouched, one, rest, left) == ((), 1, 3, [])
    assert [letter.id for letter in queued] == [ids[0]]
