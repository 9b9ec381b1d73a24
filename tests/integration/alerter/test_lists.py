"""ListBreaches: the log read backwards, whole and in pages, whatever is asked of it and however it grows meanwhile."""

from __future__ import annotations

import pytest
from tickwatch.v1 import alert_pb2 as wire

from services.alerter.streams import listing
from services.core.breaches import Severity
from tests.support.alerter import AlertService, LogWriter, breach, many, resolved, serve, withdrawn
from tests.support.query import LAST, failure, make_store


@pytest.fixture
def store():
    """A memory store at `NOW`."""
    return make_store()


@pytest.fixture
def writer(store):
    """The writer of the store's log."""
    return LogWriter(store.breach_log)


async def walk(service: AlertService, **fields: object) -> list[list[str]]:
    """Return the ids of all events, page by page."""
    request = wire.ListBreachesRequest(**fields)  # type: ignore[arg-type]
    pages = []
    while True:
        answer = await service.stub.ListBreaches(request)
        pages.append([event.id for event in answer.events])
        if not answer.next_page_token:
            return pages
        request.page_token = answer.next_page_token


@pytest.mark.parametrize("size", [1, 2, 7, 24, 25, 26, 0])
async def test_pages_of_any_size_make_the_same_list(store, writer, size):
    """The newest comes first; no event is missing or twice; only the last page has no token."""
    entries = [entry for slot in range(5) for entry in writer.append(*many(5, LAST + slot), evaluated=LAST + slot)]
    newest_first = [entry.event.id for entry in reversed(entries)]
    async with serve(store) as service:
        pages = await walk(service, page_size=size)

    assert [event for page in pages for event in page] == newest_first
    assert all(len(page) == size for page in pages[:-1])
    assert len(pages) == -(-25 // (size or 100))


async def test_a_list_holds_still_while_the_log_grows(store, writer):
    """Events appended after the first page come in no later page; the page size may change on the way."""
    entries = writer.append(*many(10))
    async with serve(store) as service:
        first = await service.stub.ListBreaches(wire.ListBreachesRequest(page_size=3))
        writer.append(*many(10, LAST + 1), evaluated=LAST + 1)
        rest = await walk(service, page_size=100, page_token=first.next_page_token)

    assert [event.id for event in first.events] + rest[0] == [entry.event.id for entry in reversed(entries)]


async def test_filters_and_times_narrow_a_list(store, writer):
    """Rules, metrics, severity, delivery and the slot's time; late events are listed like others."""
    opening, other = breach("SIM:AAA", LAST - 9), breach("KRAKEN:AAA", LAST - 8, rule="other")
    further, end = breach("SIM:AAA", LAST - 8, LAST - 9), resolved(breach("SIM:AAA", LAST - 9), LAST - 3)
    late = breach("SIM:BBB", LAST - 9, late=True, severity=Severity.CRITICAL)
    gone = withdrawn(further)
    for number, event in enumerate([opening, other, further, end]):
        writer.append(event, evaluated=LAST + number)
    writer.append(late, gone, evaluated=LAST + 4)
    minute = LAST * 60

    async with serve(store) as service:

        async def listed(**fields: object) -> list[str]:
            return [event for page in await walk(service, **fields) for event in page]

        assert await listed() == [e.id for e in (gone, late, end, further, other, opening)]
        assert await listed(rules=["other"]) == [other.id]
        assert await listed(metrics=["SIM:*"], delivery=wire.DELIVERY_EPISODES) == [late.id, end.id, opening.id]
        assert await listed(min_severity=wire.SEVERITY_CRITICAL) == [late.id]
        assert await listed(start_time={"seconds": minute - 180}) == [end.id]
        assert await listed(start_time={"seconds": minute - 540}, end_time={"seconds": minute - 480}) == [
            late.id,
            opening.id,
        ]
        assert await listed(start_time={"seconds": minute}, end_time={"seconds": minute}) == []


async def test_a_page_reads_a_bounded_part_of_the_log(store, writer, monkeypatch):
    """What is rare is found by walking on: pages may be short or empty, and the last one alone has no token."""
    monkeypatch.setattr(listing, "MOST_SCANNED", 50)
    monkeypatch.setattr(listing, "PAGE_ENTRIES", 20)
    for slot in range(10):
        writer.append(*many(30, LAST + slot), evaluated=LAST + slot)
    rare = breach("SIM:P00003", LAST)
    async with serve(store) as service:
        pages = await walk(
            service,
            metrics=["SIM:P00003"],
            end_time={"seconds": (LAST + 1) * 60},
        )

    assert [event for page in pages for event in page] == [rare.id]
    assert len(pages) > 3


async def test_a_token_is_bound_to_its_request(store, writer):
    """A token with other arguments, of another service or made up, is INVALID_PAGE_TOKEN and says which."""
    writer.append(*many(5))
    async with serve(store) as service, serve(store) as stranger:
        page = await service.stub.ListBreaches(wire.ListBreachesRequest(page_size=2))
        token = page.next_page_token
        changed = await failure(service.stub.ListBreaches(wire.ListBreachesRequest(page_token=token, rules=["other"])))
        foreign = await failure(stranger.stub.ListBreaches(wire.ListBreachesRequest(page_token=token)))
        made_up = await failure(service.stub.ListBreaches(wire.ListBreachesRequest(page_token="x" * 40)))
    async with serve(store, page_token_key=b"k" * 32) as one, serve(store, page_token_key=b"k" * 32) as two:
        token = (await one.stub.ListBreaches(wire.ListBreachesRequest(page_size=2))).next_page_token
        shared = await two.stub.ListBreaches(wire.ListBreachesRequest(page_size=2, page_token=token))

    assert {wrong[:3] for wrong in (changed, foreign, made_up)} == {
        ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token")
    }
    assert "other arguments" in changed.message
    assert len(shared.events) == 2
