"""AIP-158's laws, on the real handlers: pages partition the whole, and tokens are good for their request alone."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tickwatch.v1 import query_pb2 as wire

from services.core.errors import InvalidPageTokenError
from services.core.model import DAY_SLOTS, Measure, Points, Quality, Series
from services.core.rpc.paging import PageTokens
from tests.support.query import LAST, Unserved, make_market, make_store, names, record_run, unserved

COUNT = 57
SIZES = st.lists(st.integers(1, 40), min_size=60, max_size=60)


@pytest.fixture(scope="module")
def service() -> Unserved:
    """57 metrics of which some tie, and one that cannot be ranked."""
    store = make_store(make_market(names(COUNT - 7), slots=30, measures=[Measure.PRICE]))
    tied = [Series(f"SIM:T{n}", Measure.PRICE) for n in range(7)]
    store.write(Points.of((series, LAST - back, back % 3, Quality.OBSERVED) for series in tied for back in range(30)))
    store.write(Points.of([(Series("SIM:LONE", Measure.PRICE), LAST, 1.0, Quality.OBSERVED)]))
    made = unserved(store)
    assert made.follower.step()
    return made


def list_page(service: Unserved, **fields: object) -> wire.ListMetricsResponse:
    """Call ListMetrics."""
    request = wire.ListMetricsRequest(**fields).SerializeToString()
    return wire.ListMetricsResponse.FromString(service.servicer.list_metrics(request, None))


def rank_page(service: Unserved, **fields: object) -> wire.RankMetricsResponse:
    """Call RankMetrics for the price."""
    request = wire.RankMetricsRequest(**{"measure": wire.MEASURE_PRICE, **fields}).SerializeToString()
    return wire.RankMetricsResponse.FromString(service.servicer.rank_metrics(request, None))


@given(SIZES)
def test_list_pages_partition_the_whole(service: Unserved, sizes: list[int]) -> None:
    """Whatever the sizes of the pages, in order they are the whole list; none is larger than asked; one is the last."""
    seen: list[str] = []
    token = ""
    for size in sizes:
        page = list_page(service, page_size=size, page_token=token)
        assert 0 < len(page.metrics) <= size
        seen += [metric.name for metric in page.metrics]
        token = page.next_page_token
        if not token:
            break

    assert seen == sorted([*names(COUNT - 7), *(f"SIM:T{n}" for n in range(7)), "SIM:LONE"])


@given(SIZES)
def test_rank_pages_partition_the_whole(service: Unserved, sizes: list[int]) -> None:
    """Pages of a ranking are the whole ranking, ties not broken at their borders; the unranked come once."""
    whole = rank_page(service, page_size=10_000)
    seen: list[wire.Ranking] = []
    unranked: list[str] = []
    token = ""
    for size in sizes:
        page = rank_page(service, page_size=size, page_token=token)
        assert 0 < len(page.rankings) <= size
        assert page.ranked_count == COUNT
        assert page.window == whole.window
        seen += page.rankings
        unranked += page.unranked
        token = page.next_page_token
        if not token:
            break

    assert seen == list(whole.rankings)
    assert unranked == ["SIM:LONE"]


def test_page_sizes() -> None:
    """0 means 100, more than 10000 means 10000."""
    made = unserved(make_store(make_market(names(10_050), slots=2, measures=[Measure.PRICE])))
    assert made.follower.step()

    assert len(list_page(made).metrics) == 100
    assert len(list_page(made, page_size=2**31 - 1).metrics) == 10_000
    assert len(rank_page(made).rankings) == 100
    assert len(rank_page(made, page_size=10_001).rankings) == 10_000


def test_tokens_are_bound_to_their_request(service: Unserved) -> None:
    """A token of another method, exchange, measure, statistic or window is refused for just that."""
    listed = list_page(service, page_size=5).next_page_token
    ranked = rank_page(service, page_size=5).next_page_token
    other = pytest.raises(InvalidPageTokenError, match="belongs to a request with other arguments")
    with other:
        list_page(service, page_token=ranked)
    with other:
        rank_page(service, page_token=listed)
    with other:
        list_page(service, page_token=listed, exchange="SIM")
    with other:
        rank_page(service, page_token=ranked, measure=wire.MEASURE_VOLUME)
    with other:
        rank_page(service, page_token=ranked, statistic=wire.STATISTIC_LOG_RETURN_STDDEV)
    with other:
        rank_page(service, page_token=ranked, window={"seconds": 600})

    assert rank_page(service, page_token=ranked, statistic=wire.STATISTIC_STDDEV, window={"seconds": 86400}).rankings
    assert rank_page(service, page_token=ranked, page_size=2).rankings


@given(st.data())
def test_a_tampered_token_is_refused(service: Unserved, data: st.DataObject) -> None:
    """Any change of any character is found out."""
    token = rank_page(service, page_size=5).next_page_token
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from([c for c in string.ascii_letters + string.digits + "-_=" if c != token[place]]))
    with pytest.raises(InvalidPageTokenError, match="was not issued by this service"):
        rank_page(service, page_token=token[:place] + letter + token[place + 1 :])


@given(st.text(max_size=700))
def test_made_up_tokens_are_refused(text: str) -> None:
    """No text that this service has not issued is a token."""
    with pytest.raises(InvalidPageTokenError):
        PageTokens(b"key").open("ListMetrics", b"", text or "x")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_tokens_hand_on_their_payload(arguments: bytes, payload: bytes) -> None:
    """What was put in comes out, under the same key alone; the token is URL-safe and shows nothing of it."""
    token = PageTokens(b"key").issue("M", arguments, payload)

    assert PageTokens(b"key").open("M", arguments, token) == payload
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    with pytest.raises(InvalidPageTokenError):
        PageTokens(b"another").open("M", arguments, token)


def test_a_rank_token_holds_its_window_for_an_hour() -> None:
    """A token's pages are of the window of the first page for 60 minutes; after that it has expired and says so."""
    market = make_market(names(20), slots=DAY_SLOTS, measures=[Measure.PRICE])
    store = make_store(market)
    made = unserved(store)
    assert made.follower.step()
    whole = rank_page(made, page_size=100)
    first = rank_page(made, page_size=10)
    for minute in (1, 60):
        made.clock.set((LAST + minute + 1) * 60.0 + 20)
        store._clock.set(made.clock.now())  # type: ignore[attr-defined]
        store.write(Points.of([(Series("SIM:P00000", Measure.PRICE), LAST + minute, 1e6, Quality.OBSERVED)]))
        record_run(store, LAST + minute)
        assert made.follower.step()
        second = rank_page(made, page_size=10, page_token=first.next_page_token)

        assert [*first.rankings, *second.rankings] == list(whole.rankings)
        assert second.window == whole.window
    assert rank_page(made, page_size=10).rankings[0].metric == "SIM:P00000"
    made.clock.advance(60)
    record_run(store, LAST + 61)
    store._clock.set(made.clock.now())  # type: ignore[attr-defined]
    assert made.follower.step()
    with pytest.raises(InvalidPageTokenError, match="has expired: its window ended at 2026-11-24 06:00 UTC"):
        rank_page(made, page_size=10, page_token=first.next_page_token)


@pytest.mark.parametrize("exchange", ["AA", "A-A", "A", "AAA", "B"])
def test_an_exchange_s_pages_are_its_own(exchange: str) -> None:
    """Exchanges whose names begin alike are kept apart, on every page."""
    every = [f"{name}:P{number}" for name in ("A", "A-A", "AA", "AAA") for number in range(7)]
    made = unserved(make_store(make_market(every, slots=2, measures=[Measure.PRICE])))
    assert made.follower.step()
    seen, token = [], ""
    while True:
        page = list_page(made, page_size=3, page_token=token, exchange=exchange)
        seen += [metric.name for metric in page.metrics]
        token = page.next_page_token
        if not token:
            break

    assert seen == sorted(name for name in every if name.startswith(f"{exchange}:"))


def test_odd_questions_do_not_pile_up(service: Unserved) -> None:
    """Rankings over ever other windows are right, and only the last few are remembered."""
    for minutes in range(2, 200):
        page = rank_page(service, window={"seconds": minutes * 60})
        assert page.window.end_time.seconds - page.window.start_time.seconds == minutes * 60

    assert len(service.querying._memo) <= 32
