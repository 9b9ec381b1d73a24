"""Silences: what they cover, how long they hold, and that every process sees the same ones."""

from __future__ import annotations

import dataclasses
import math

import pytest

from services.alerter.notifying.silences import KIND, Silences
from services.core.breaches import Event, Subject
from services.core.clock import ManualClock
from services.core.errors import InvalidInputError, SilenceNotFoundError
from services.core.model import Measure
from services.core.rules import Selector
from services.core.store.base import BreachLog
from tests.support.alerter import RULE, breach
from tests.support.query import NOW, make_store

HOUR = 3600.0


@pytest.fixture
def clock() -> ManualClock:
    """A clock that tests move."""
    return ManualClock(NOW)


@pytest.fixture
def log(clock: ManualClock) -> BreachLog:
    """An empty log."""
    return make_store(clock=clock).breach_log


@pytest.fixture
def silences(log: BreachLog, clock: ManualClock) -> Silences:
    """The silences of that log."""
    return Silences(log, clock)


def outage(exchange: str = "SIM") -> Event:
    """Return a breach of a whole exchange."""
    return dataclasses.replace(breach(), subject=Subject(exchange))


def test_a_silence_holds_from_its_creation_until_its_end(silences, clock):
    """[start, end): it holds at once, and no longer at the moment it ends."""
    created = silences.create([], Selector(), HOUR)

    assert (created.start, created.end) == (NOW, NOW + HOUR)
    assert silences.silenced(breach())
    assert silences.holds_for(breach(), NOW)
    assert not silences.holds_for(breach(), NOW - 0.001)
    assert silences.holds_for(breach(), NOW + HOUR - 0.001)
    assert not silences.holds_for(breach(), NOW + HOUR)
    clock.advance(HOUR)
    assert not silences.silenced(breach())


COVERED = [
    ([], Selector(), breach(), True),
    ([RULE], Selector(), breach(), True),
    (["three-*"], Selector(), breach(), True),
    (["missing", "three-?imes-*"], Selector(), breach(), True),
    (["missing"], Selector(), breach(), False),
    ([], Selector(exchanges=("SIM",)), breach(), True),
    ([], Selector(exchanges=("KRAKEN",)), breach(), False),
    ([], Selector(metrics=("SIM:A*",)), breach(), True),
    ([], Selector(metrics=("SIM:B*", "SIM:AAA")), breach(), True),
    ([], Selector(metrics=("SIM:B*",)), breach(), False),
    ([], Selector(measures=("pri*",)), breach(), True),
    ([], Selector(measures=("volume*",)), breach(), False),
    ([RULE], Selector(("SIM",), ("*:AAA",), ("price",)), breach(), True),
    ([RULE], Selector(("SIM",), ("*:AAA",), ("volume",)), breach(), False),
    ([], Selector(exchanges=("SIM",)), outage(), True),
    ([], Selector(metrics=("SIM:*",)), outage(), True),
    ([], Selector(metrics=("SIM:A*",)), outage(), False),
    ([], Selector(metrics=("*USD",)), outage(), False),
    ([], Selector(measures=("price",)), outage(), False),
    ([], Selector(measures=("*",)), outage(), True),
]


@pytest.mark.parametrize(("rules", "selector", "event", "covered"), COVERED)
def test_a_silence_covers_what_all_its_globs_fit(silences, rules, selector, event, covered):
    """Globs of one field are joined by or, fields by and; a whole exchange counts as EXCHANGE: without a measure."""
    silences.create(rules, selector, HOUR)

    assert silences.silenced(event) is covered


def test_a_silence_for_a_rule_is_found_by_the_rule(silences, clock):
    """Whoever lists rules learns which silences hold for each, the one that ends first standing first."""
    every = silences.create([], Selector(), 2 * HOUR)
    some = silences.create(["three-*"], Selector(metrics=("SIM:AAA",)), HOUR)

    assert silences.holding(RULE) == (some.id, every.id)
    assert silences.holding("missing") == (every.id,)
    clock.advance(HOUR)
    assert silences.holding(RULE) == (every.id,)


def test_silences_are_listed_by_their_end_as_long_as_they_hold(silences, clock):
    """One that is over is not listed any more, at the very moment of its end."""
    late = silences.create([], Selector(), 2 * HOUR, "maintenance")
    soon = silences.create(["missing"], Selector(("SIM",), ("SIM:*",), ("price",)), HOUR)

    assert silences.list() == (soon, late)
    clock.advance(HOUR)
    assert silences.list() == (late,)


def test_every_process_sees_the_same_silences(log, clock, silences):
    """What one replica creates or ends, another honours as soon as its reading is two seconds old."""
    other = Silences(log, clock)
    assert not other.silenced(breach())

    created = silences.create([], Selector(), HOUR, "deploy")
    assert not other.silenced(breach())
    clock.advance(2)
    assert other.silenced(breach())
    assert other.list() == (created,)
    other.expire(created.id)
    assert not other.silenced(breach())
    clock.advance(2)
    assert not silences.silenced(breach())


def test_the_store_is_asked_every_two_seconds_however_many_events_there_are(log, silences, clock, monkeypatch):
    """An event costs no read of the store."""
    reads = []
    documents = log.documents
    monkeypatch.setattr(log, "documents", lambda kind: reads.append(kind) or documents(kind))

    for _ in range(1000):
        silences.silenced(breach())
    clock.advance(1.9)
    silences.silenced(breach())
    assert reads == [KIND]
    clock.advance(0.1)
    silences.silenced(breach())
    assert reads == [KIND, KIND]


def test_a_clock_that_is_set_back_does_not_keep_old_news(silences, log, clock):
    """What was read `in the future` is read again."""
    assert not silences.silenced(breach())
    clock.advance(-HOUR)
    Silences(log, clock).create([], Selector(), HOUR)

    assert silences.silenced(breach())


def test_what_is_over_is_deleted(silences, log, clock):
    """Five minutes after its end, which clocks may differ by, nothing is left of a silence in the store."""
    silences.create([], Selector(), HOUR)

    clock.advance(HOUR + 299)
    silences.list()
    assert len(log.documents(KIND)) == 1
    clock.advance(2)
    silences.list()
    assert log.documents(KIND) == {}


def test_ending_a_silence_ends_it_at_once_and_only_it(silences, log):
    """The other one holds on."""
    first = silences.create([], Selector(), HOUR)
    second = silences.create([], Selector(metrics=("SIM:BBB",)), HOUR)

    silences.expire(first.id)

    assert silences.list() == (second,)
    assert list(log.documents(KIND)) == [second.id]
    assert not silences.silenced(breach("SIM:AAA"))
    assert silences.silenced(breach("SIM:BBB"))


def test_only_what_holds_can_be_ended(silences, clock):
    """An unknown id, one that was ended before and one that is over are not found."""
    ended = silences.create([], Selector(), HOUR)
    over = silences.create([], Selector(), HOUR)
    silences.expire(ended.id)
    clock.advance(HOUR)

    for wrong in ("", "nothing", ended.id, over.id):
        with pytest.raises(SilenceNotFoundError):
            silences.expire(wrong)


WRONG = [
    ({"duration_seconds": 59.999}, "duration: 59.999 s is out of range (1 minute to 30 days)"),
    ({"duration_seconds": 30 * 86_400 + 1}, "duration: 2592001 s is out of range (1 minute to 30 days)"),
    ({"duration_seconds": -60}, "duration: -60 s is out of range (1 minute to 30 days)"),
    ({"duration_seconds": math.nan}, "duration: nan is out of range (1 minute to 30 days)"),
    ({"duration_seconds": math.inf}, "duration: inf is out of range (1 minute to 30 days)"),
    ({"rules": ["ok", ""]}, "rules[1]: '' does not fit (a rule's name or a glob of one, such as missing or three-*)"),
    ({"rules": ["a b"]}, "rules[0]: 'a b' does not fit"),
    ({"rules": ["x" * 65]}, "rules[0]: 'xxxxx"),
    ({"rules": ["[ab]"]}, "rules[0]: '[ab]' does not fit"),
    ({"rules": ["a"] * 101}, "rules: 101 globs (at most 100)"),
    ({"comment": "x" * 1001}, "comment: 1001 characters (at most 1000)"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_cannot_be_silenced_is_refused_by_field(silences, log, given, message):
    """The error names the field of the request and what would be right, and nothing is kept."""
    fields = {"rules": [], "selector": Selector(), "duration_seconds": HOUR, **given}

    with pytest.raises(InvalidInputError) as caught:
        silences.create(**fields)

    assert str(caught.value).startswith(message)
    assert log.documents(KIND) == {}


@pytest.mark.parametrize(
    ("globs", "message"),
    [
        ({"exchanges": ("kraken",)}, "selector.exchanges[0]: 'kraken' does not fit (an exchange or a glob of one"),
        ({"metrics": ("SIM:AAA", "SIM/BBB")}, "selector.metrics[1]: 'SIM/BBB' does not fit (a metric or a glob of one"),
        ({"metrics": ("[AB]:*",)}, "selector.metrics[0]: '[AB]:*' does not fit"),
        ({"metrics": ("A",) * 101}, "selector.metrics: 101 globs (at most 100)"),
        ({"measures": ("prise",)}, "selector.measures: 'prise' fits no measure (the measures are price, "),
        ({"measures": ("price",) * 101}, "selector.measures: 101 globs (at most 100)"),
    ],
)
def test_a_selector_refuses_globs_that_could_fit_nothing(globs, message):
    """For silences and rules alike, by the field and what would be right."""
    with pytest.raises(InvalidInputError) as caught:
        Selector(**globs)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("seconds", [60, 30 * 86_400])
def test_the_shortest_and_the_longest_silence_are_taken(silences, seconds):
    """A minute and 30 days are both in range."""
    assert silences.create([], Selector(), seconds).end == NOW + seconds


def test_what_another_version_wrote_is_left_alone(silences, log, caplog):
    """A document that cannot be read is said once, neither honoured nor deleted, and hinders no other."""
    log.put_document(KIND, "a", "{}")
    log.put_document(KIND, "b", "nonsense")
    created = silences.create([], Selector(measures=tuple(m.value for m in Measure)), HOUR)

    assert silences.list() == (created,)
    silences.expire(created.id)
    assert list(log.documents(KIND)) == ["a", "b"]
    assert [record.getMessage()[:9] for record in caplog.records] == ["silence a", "silence b"]


def test_ids_cannot_be_guessed(silences):
    """Two silences of the same selection have different ids."""
    ids = {silences.create([], Selector(), HOUR).id for _ in range(10)}

    assert len(ids) == 10
    assert all(len(silence_id) == 16 for silence_id in ids)
