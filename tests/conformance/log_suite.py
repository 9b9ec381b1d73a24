"""What every log of breaches does: the docstrings of `services.core.store.base.BreachLog`, as tests."""

from __future__ import annotations

import concurrent.futures
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.breach_documents import event_text
from services.core.breaches import Checkpoint, Event, EventKind, LogEntry, Position, Severity, Subject
from services.core.clock import ManualClock
from services.core.errors import CursorExpiredError, InvalidInputError, LogMovedError, StoreUnavailableError
from services.core.model import Measure, Slot
from services.core.store.base import BreachLog, MetricStore
from tests.support.stores import NOON, NOON_SLOT

SUBJECT = Subject("KRAKEN", "KRAKEN:BTCUSD", Measure.PRICE)
DAY = 24 * 3600


def event(slot: int = NOON_SLOT, message: str = "") -> Event:
    """Return a breach of a rule."""
    return Event(
        EventKind.BREACH,
        "three-times",
        "0123456789ab",
        Severity.WARNING,
        SUBJECT,
        Slot(slot),
        Slot(slot),
        value=301.5,
        baseline=100.0,
        message=message,
    )


def entries(first: Position, count: int, message: str = "") -> list[LogEntry]:
    """Return entries that follow each other."""
    return [
        LogEntry(Position(first.slot, first.ordinal + number), event(first.slot, f"{message}{number}"))
        for number in range(count)
    ]


def at(offset: int = 0, ordinal: int = 0) -> Position:
    """Return a position so many slots from noon."""
    return Position(Slot(NOON_SLOT + offset), ordinal)


def shown(entry: LogEntry) -> tuple[Position, str]:
    """Return an entry as something that can be compared."""
    return entry.position, event_text(entry.event)


def messages(found: tuple[LogEntry, ...]) -> list[str]:
    """Return what tells entries apart."""
    return [entry.event.message for entry in found]


class LogSuite(ABC):
    """Subclasses say how a store is opened at a place; `place` is a fixture of theirs."""

    @abstractmethod
    def open_store(self, place: object, clock: ManualClock) -> MetricStore:
        """Open the store at this place."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Noon."""
        return ManualClock(NOON)

    @pytest.fixture
    def store(self, place: object, clock: ManualClock) -> Iterator[MetricStore]:
        """The store."""
        with self.open_store(place, clock) as store:
            yield store

    @pytest.fixture
    def log(self, store: MetricStore) -> BreachLog:
        """Its log."""
        return store.breach_log

    def test_a_new_log_is_empty(self, log: BreachLog) -> None:
        """Nobody has appended: no checkpoint, no entries, no documents."""
        assert log.checkpoint() is None
        assert log.read_after(log.earliest(), 10) == ()
        assert log.read_before(None, 10) == ()
        assert log.documents("silence") == {}

    def test_what_was_appended_is_read_in_order(self, log: BreachLog) -> None:
        """Entries come back whole, forwards and backwards, and the checkpoint with them."""
        first = entries(at(), 3)
        log.append(None, first, Checkpoint(at(0, 3), '{"a":1}'))
        second = entries(at(1), 2, "later ")
        log.append(at(0, 3), second, Checkpoint(at(1, 2), '{"a":2}'))

        assert log.checkpoint() == Checkpoint(at(1, 2), '{"a":2}')
        found = log.read_after(log.earliest(), 100)
        assert [entry.position for entry in found] == [entry.position for entry in [*first, *second]]
        assert messages(found) == ["0", "1", "2", "later 0", "later 1"]
        assert found[0].event.id == first[0].event.id
        assert (found[0].event.value, found[0].event.baseline) == (301.5, 100.0)
        backwards = log.read_before(None, 100)
        # Events hold NaN, which equals nothing: their text is what is compared.
        assert [shown(entry) for entry in backwards] == [shown(entry) for entry in reversed(found)]

    def test_limits_and_places(self, log: BreachLog) -> None:
        """Reading after a position includes it, reading before excludes it; limits hold in both directions."""
        log.append(None, entries(at(), 5), Checkpoint(at(0, 5), "s"))

        assert messages(log.read_after(at(0, 1), 2)) == ["1", "2"]
        assert messages(log.read_after(at(0, 4), 9)) == ["4"]
        assert messages(log.read_after(at(0, 5), 9)) == []
        assert messages(log.read_after(at(7), 9)) == []
        assert messages(log.read_before(at(0, 3), 2)) == ["2", "1"]
        assert messages(log.read_before(at(), 9)) == []
        assert messages(log.read_before(at(0, 5), 9)) == ["4", "3", "2", "1", "0"]

    def test_old_entries_are_found_backwards(self, log: BreachLog) -> None:
        """However long ago the last entries were, reading backwards finds them."""
        log.append(None, entries(at(-9000), 2), Checkpoint(at(-9000, 2), "s"))
        log.append(at(-9000, 2), entries(at(-1000), 1, "b"), Checkpoint(at(), "t"))

        assert messages(log.read_before(None, 2)) == ["b0", "1"]
        assert messages(log.read_before(None, 9)) == ["b0", "1", "0"]
        assert messages(log.read_before(at(-1000), 9)) == ["1", "0"]

    def test_a_checkpoint_moves_on_alone(self, log: BreachLog) -> None:
        """An append without entries replaces the checkpoint, also one that stays where it is."""
        log.append(None, [], Checkpoint(at(), "one"))
        log.append(at(), [], Checkpoint(at(1), "two"))
        log.append(at(1), [], Checkpoint(at(1), "three"))

        assert log.checkpoint() == Checkpoint(at(1), "three")
        assert log.read_before(None, 9) == ()

    def test_an_append_elsewhere_is_refused(self, log: BreachLog) -> None:
        """Whoever expects another end than there is changes nothing."""
        log.append(None, entries(at(), 2), Checkpoint(at(0, 2), "one"))

        for expected, first in ((None, at(1)), (at(0, 1), at(1)), (at(-1), at(1)), (at(1), at(1))):
            with pytest.raises(LogMovedError):
                log.append(expected, entries(first, 1), Checkpoint(at(3), "two"))

        assert log.checkpoint() == Checkpoint(at(0, 2), "one")
        assert messages(log.read_before(None, 9)) == ["1", "0"]

    def test_an_append_repeated_is_done_once(self, log: BreachLog) -> None:
        """Somebody who does not know whether his append went through makes it again."""
        for _ in range(2):
            log.append(None, entries(at(), 2), Checkpoint(at(0, 2), "one"))
        for _ in range(2):
            log.append(at(0, 2), entries(at(0, 2), 1, "b"), Checkpoint(at(1), "two"))

        assert messages(log.read_after(log.earliest(), 9)) == ["0", "1", "b0"]
        assert log.checkpoint() == Checkpoint(at(1), "two")

    def test_what_another_has_appended_is_no_repetition(self, log: BreachLog) -> None:
        """Two that take the log to the same end with something else: the second is told, or its entries were lost."""
        log.append(None, [], Checkpoint(at(), "one"))
        log.append(at(), entries(at(), 2, "a"), Checkpoint(at(0, 2), "first"))

        with pytest.raises(LogMovedError):
            log.append(at(), entries(at(), 2, "b"), Checkpoint(at(0, 2), "second"))

        assert messages(log.read_after(log.earliest(), 9)) == ["a0", "a1"]
        assert log.checkpoint() == Checkpoint(at(0, 2), "first")

    def test_who_may_not_append_any_more_changes_nothing(self, log: BreachLog) -> None:
        """Whenever during an append the right to it ends, readers see nothing of it, and another's take its place."""
        log.append(None, entries(at(), 1), Checkpoint(at(0, 1), "one"))
        for asked in range(1, 9):
            answers = iter([True] * (asked - 1))

            def allowed(answers: Iterator[bool] = answers) -> bool:
                return next(answers, False)

            try:
                log.append(at(0, 1), entries(at(0, 1), 3, "lost "), Checkpoint(at(1), "two"), allowed)
            except LogMovedError:
                assert messages(log.read_after(log.earliest(), 9)) == ["0"]
                assert log.checkpoint() == Checkpoint(at(0, 1), "one")
            else:
                break
        assert asked > 1, "it was never asked"
        assert messages(log.read_after(log.earliest(), 9)) == ["0", "lost 0", "lost 1", "lost 2"]

    def test_disorder_is_a_defect(self, log: BreachLog) -> None:
        """Entries out of order, at or after the end, or before the expected place are never stored."""
        backwards = list(reversed(entries(at(), 2)))
        for expected, wrong, end in (
            (None, backwards, at(1)),
            (None, entries(at(), 2), at(0, 1)),
            (at(1), entries(at(), 1), at(2)),
            (at(1), [], at()),
        ):
            with pytest.raises(ValueError, match="do"):
                log.append(expected, wrong, Checkpoint(end, "s"))
        assert log.checkpoint() is None

    def test_two_writers_at_once_leave_nothing_twice(self, place: object, clock: ManualClock) -> None:
        """Two that evaluate the same append the same; one of them may be told that the log has moved."""

        def evaluate(number: int) -> list[str]:
            told = []
            with self.open_store(place, clock) as own:
                for slot in range(5):
                    end = None if slot == 0 else at(slot)
                    try:
                        batch = entries(at(slot), 2, f"{slot} ")
                        own.breach_log.append(end, batch, Checkpoint(at(slot + 1), f"state {slot}"))
                    except LogMovedError:
                        told.append(f"{number}: {slot}")
            return told

        with self.open_store(place, clock), concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(evaluate, range(2)))
        with self.open_store(place, clock) as store:
            found = store.breach_log.read_after(store.breach_log.earliest(), 99)
            assert messages(found) == [f"{slot} {number}" for slot in range(5) for number in range(2)]
            assert store.breach_log.checkpoint() == Checkpoint(at(5), "state 4")

    def test_old_entries_are_not_returned(self, store: MetricStore, log: BreachLog, clock: ManualClock) -> None:
        """Beyond the retention there is nothing, and a position there is refused rather than skipped over."""
        log.append(None, entries(at(), 2), Checkpoint(at(1), "s"))
        clock.advance(29 * DAY)
        assert messages(log.read_after(at(), 9)) == ["0", "1"]
        clock.advance(2 * DAY)

        with pytest.raises(CursorExpiredError):
            log.read_after(at(), 9)
        assert log.read_after(log.earliest(), 9) == ()
        assert log.read_before(None, 9) == ()
        store.expire()
        assert log.read_before(None, 9) == ()

    def test_the_identity_stays(self, place: object, clock: ManualClock, store: MetricStore, log: BreachLog) -> None:
        """A log is told from every other one, for as long as it lives."""
        identity = log.log_id()
        assert len(identity) == 32
        assert int(identity, 16) >= 0
        log.append(None, [], Checkpoint(at(), "s"))
        clock.advance(DAY)
        log.append(at(), [], Checkpoint(at(1440), "s"))
        assert log.log_id() == identity

    def test_documents_are_kept(self, log: BreachLog) -> None:
        """Put, replaced, forgotten; each kind by itself, by key in order."""
        log.put_document("silence", "b", "two")
        log.put_document("silence", "a", "one")
        log.put_document("dead-letter", "a", "other")
        assert list(log.documents("silence").items()) == [("a", "one"), ("b", "two")]
        log.put_document("silence", "a", "one, again")
        log.put_document("silence", "b", None)
        log.put_document("silence", "never", None)

        assert log.documents("silence") == {"a": "one, again"}
        assert log.documents("dead-letter") == {"a": "other"}

    def test_documents_outlive_days(self, log: BreachLog, clock: ManualClock) -> None:
        """What was put on one day is replaced and forgotten on another."""
        log.put_document("silence", "a", "long text " * 20_000)
        log.put_document("silence", "b", "two")
        clock.advance(2 * DAY)
        log.put_document("silence", "a", "short")
        log.put_document("silence", "b", None)

        assert log.documents("silence") == {"a": "short"}

    def test_long_texts_fit(self, log: BreachLog) -> None:
        """A million characters do, one more does not, none does not; a checkpoint has room for many episodes."""
        log.append(None, [], Checkpoint(at(), "x" * 8_000_000))
        log.put_document("k", "long", "ä" * 1_000_000)

        assert log.checkpoint() == Checkpoint(at(), "x" * 8_000_000)
        assert log.documents("k") == {"long": "ä" * 1_000_000}
        for text in ("", "x" * 1_000_001):
            with pytest.raises(InvalidInputError, match="text"):
                log.put_document("k", "wrong", text)

    @pytest.mark.parametrize(("kind", "key"), [("", "k"), ("a b", "k"), ("k", ""), ("k", "ä"), ("k", "x" * 201)])
    def test_wrong_names_are_refused(self, log: BreachLog, kind: str, key: str) -> None:
        """A kind and a key are short and printable."""
        with pytest.raises(InvalidInputError, match="cannot be a name"):
            log.put_document(kind, key, "text")

    def test_any_text_comes_back(self, log: BreachLog) -> None:
        """Quotes, backslashes, line ends, anything."""

        @settings(max_examples=25)
        @given(
            key=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30),
            text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
        )
        def put(key: str, text: str) -> None:
            log.put_document("any", key, text)
            assert log.documents("any")[key] == text

        put()

    def test_a_closed_store_says_so(self, place: object, clock: ManualClock) -> None:
        """After closing, every call of the log's raises, too."""
        store = self.open_store(place, clock)
        log = store.breach_log
        log.log_id()
        store.close()
        for call in (
            log.log_id,
            log.checkpoint,
            lambda: log.append(None, [], Checkpoint(at(), "s")),
            lambda: log.read_after(at(), 1),
            lambda: log.read_before(None, 1),
            lambda: log.put_document("k", "k", "t"),
            lambda: log.documents("k"),
        ):
            with pytest.raises(StoreUnavailableError, match="closed"):
                call()
