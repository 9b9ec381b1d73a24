"""Events and states survive being written as JSON."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from services.core.breach_documents import (
    AlertState,
    OpenEpisode,
    event_document,
    event_from_text,
    event_text,
    state_from_text,
    state_text,
)
from services.core.breaches import Event, EventKind, ResolvedReason, Severity, Subject
from services.core.model import Measure, Slot

numbers = st.floats(allow_nan=True, allow_infinity=False)
subjects = st.one_of(
    st.builds(Subject, st.just("KRAKEN")),
    st.builds(Subject, st.just("KRAKEN"), st.just("KRAKEN:BTCUSD"), st.sampled_from(Measure)),
)
slots = st.integers(0, 60_000_000).map(Slot)
events = st.builds(
    Event,
    kind=st.sampled_from(EventKind),
    rule=st.text(min_size=1, max_size=8),
    rule_version=st.text(max_size=8),
    severity=st.sampled_from(Severity),
    subject=subjects,
    slot=slots,
    opened_slot=slots,
    value=numbers,
    baseline=numbers,
    ratio=numbers,
    threshold=numbers,
    point_count=st.integers(0, 1440),
    late=st.booleans(),
    reason=st.none() | st.sampled_from(ResolvedReason),
    withdrawn_id=st.sampled_from(["", "a-b-c"]),
    message=st.text(max_size=20),
    labels=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    silenced=st.booleans(),
)


def same(one: Event, other: Event) -> bool:
    """Compare events, NaN being equal to NaN."""
    return event_document(one) == event_document(other)


@given(events)
def test_an_event_comes_back(event: Event) -> None:
    """What was written is read, to the last bit of its numbers."""
    assert same(event_from_text(event_text(event)), event)


@given(st.lists(events, max_size=3), slots)
def test_a_state_comes_back(opened: list[Event], slot: Slot) -> None:
    """What was written is read, the open episodes included."""
    episodes = tuple(OpenEpisode(event, stale=True, breach_count=3, last_breach_slot=slot) for event in opened)
    state = AlertState(
        slot, Slot(7), {"rule": "v"}, episodes, {"E|E:P|price": Slot(slot + 1)}, "memory.0.7", Slot(9), blank=True
    )
    read = state_from_text(state_text(state))
    assert (read.mark, read.live_from, read.blank) == ("memory.0.7", 9, True)
    assert (read.evaluated, read.began, read.rules, read.ahead) == (slot, 7, {"rule": "v"}, {"E|E:P|price": slot + 1})
    assert all(same(a.opening, b.opening) for a, b in zip(read.episodes, episodes, strict=True))
    assert [(e.stale, e.breach_count, e.last_breach_slot) for e in read.episodes] == [(True, 3, slot)] * len(opened)


def test_what_does_not_apply_is_null() -> None:
    """JSON has no NaN, and readers of webhooks should not have to know of it."""
    event = Event(EventKind.STALE, "r", "v", Severity.INFO, Subject("E"), Slot(1), Slot(1), value=math.nan)
    assert event_document(event)["value"] is None
    assert "NaN" not in event_text(event)
