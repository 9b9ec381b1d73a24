"""The tally of breaches: the same whether read back from the log or counted as they come."""

from __future__ import annotations

import pytest

from services.alerter.rules import counting
from services.alerter.rules.counting import BreachTally, RuleCount
from services.core.breaches import LogEntry, Position
from services.core.errors import StoreUnavailableError
from services.core.model import Slot
from tests.support.alerter import breach, resolved, stale, withdrawn

NOW = Slot(100_000)
EVENTS = [
    breach(slot=NOW - 2000, rule="old"),
    breach(slot=NOW - 1500),
    breach("SIM:BBB", NOW - 1439),
    breach("SIM:BBB", NOW - 1438, NOW - 1439),
    stale(breach("SIM:BBB", NOW - 1439), NOW - 1435),
    resolved(breach("SIM:BBB", NOW - 1439), NOW - 1430),
    breach(slot=NOW - 3),
    breach(slot=NOW - 2, opened=NOW - 3),
    breach("SIM:LATE", slot=NOW - 10, late=True),
    withdrawn(breach(slot=NOW - 2, opened=NOW - 3)),
    breach(slot=NOW - 1, rule="gone"),
    withdrawn(breach(slot=NOW - 1, rule="gone")),
    withdrawn(resolved(breach("SIM:BBB", NOW - 1439), NOW - 1430)),
]
ENTRIES = [LogEntry(Position(NOW, place), event) for place, event in enumerate(EVENTS)]
EXPECTED = {
    "old": RuleCount(Slot(NOW - 2000), 0),
    "three-times-the-hour": RuleCount(Slot(NOW - 3), 4),
}


def before(position: Position, limit: int) -> tuple[LogEntry, ...]:
    """Read the entries backwards."""
    return tuple([entry for entry in ENTRIES if entry.position < position][::-1][:limit])


@pytest.mark.parametrize("split", range(len(ENTRIES) + 1))
def test_read_or_counted_it_is_the_same(split, monkeypatch):
    """Wherever following begins, breaches are counted once, withdrawn ones not, and other events never."""
    monkeypatch.setattr(counting, "READ_ENTRIES", 3)
    tally = BreachTally()
    tally.restart(Position(NOW, split))
    tally.add(ENTRIES[split : split + 2])
    first = tally.counts(before, NOW)
    tally.add(ENTRIES[split + 2 :])

    assert tally.counts(before, NOW) == EXPECTED
    assert first.keys() <= {*EXPECTED, "gone"}


def test_what_was_read_is_not_read_again(monkeypatch):
    """A store that goes away midway costs nothing that has been read; afterwards it is not asked any more."""
    monkeypatch.setattr(counting, "READ_ENTRIES", 3)
    asked: list[Position] = []

    def failing(position: Position, limit: int) -> tuple[LogEntry, ...]:
        asked.append(position)
        if len(asked) == 3:
            raise StoreUnavailableError("test:", "away")
        return before(position, limit)

    tally = BreachTally()
    tally.restart(Position(NOW, len(ENTRIES)))
    with pytest.raises(StoreUnavailableError):
        tally.counts(failing, NOW)

    assert tally.counts(failing, NOW) == EXPECTED
    count = len(asked)
    assert tally.counts(failing, NOW) == EXPECTED
    assert len(asked) == count
    assert asked[2] == asked[3]
    assert len(set(asked)) == count - 1


def test_old_breaches_are_forgotten():
    """What is older than the log's retention no longer counts as a rule's last breach."""
    tally = BreachTally()
    tally.add([LogEntry(Position(NOW, 0), breach(slot=NOW))])

    assert tally.counts(before, Slot(NOW + 30 * 1440)).keys() == {"three-times-the-hour"}
    assert not tally.counts(before, Slot(NOW + 30 * 1440 + 1))
