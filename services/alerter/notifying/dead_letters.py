"""Dead letters: notifications that were given up, kept until somebody has them sent anew.

They are documents beside the log of breaches: whichever replica is asked lists them and queues them for sending, and
the one that notifies takes them from the queue. It knows nothing of how they are sent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from services.core.breach_documents import event_document, event_from_document
from services.core.breaches import Event
from services.core.clock import Clock
from services.core.errors import DeadLetterNotFoundError
from services.core.store.base import BreachLog

KIND = "dead-letter"
QUEUED_KIND = "dead-letter-queued"
"""Of the documents: key: the letter's id, text: JSON with the fields of `DeadLetter`."""

MOST_LETTERS = 1000
"""Beyond that the oldest tenth goes: a receiver that nobody mends must not fill the store."""

_log = logging.getLogger(__name__)


class LetterKey(NamedTuple):
    """A letter's place in the list, which is in descending order of these."""

    failed: float
    id: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a receiver did not take. The same event for the same receiver has the same id each time."""

    id: str
    receiver: str
    event: Event
    attempt_count: int
    """How often it was tried, over all times that it was sent anew."""
    error: str
    """What the receiver said last."""
    failed: float
    """When it was given up, in seconds since 1970."""

    @property
    def key(self) -> LetterKey:
        """Where it stands in the list."""
        return LetterKey(self.failed, self.id)


class DeadLetters:
    """The dead letters of a log. May be called from any thread; every method may raise StoreError.

    `on_dropped` is called with how many letters went because there were more than `most`.
    """

    def __init__(
        self,
        log: BreachLog,
        clock: Clock,
        *,
        most: int = MOST_LETTERS,
        on_dropped: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._most = most
        self._on_dropped = on_dropped
        self._lock = threading.Lock()
        self._room = 0
        """How many letters may be added before they have to be counted."""

    def list(self, most: int | None = None, before: LetterKey | None = None) -> tuple[DeadLetter, ...]:
        """Return the newest letters, of those after `before` in the list where it is given, the newest first.

        `most` limits how many. Letters that are queued are not among them.
        """
        letters = self._read(KIND)
        return tuple(letter for letter in letters if before is None or letter.key < before)[:most]

    def resend(self, ids: Sequence[str] = ()) -> int:
        """Queue letters for sending anew, all without ids, and return how many; one that is queued already counts.

        Raises DeadLetterNotFoundError for an id that is unknown, and nothing is queued.
        """
        letters = {letter.id: letter for letter in self._read(KIND)}
        wanted = dict.fromkeys(ids or letters)
        if unknown := [letter_id for letter_id in wanted if letter_id not in letters]:
            queued = self._log.documents(QUEUED_KIND)
            for letter_id in unknown:
                if letter_id not in queued:
                    raise DeadLetterNotFoundError(letter_id)
        for letter_id in wanted:
            if letter := letters.get(letter_id):
                # In this order, so that whatever happens in between it is in one of both places.
                self._log.put_document(QUEUED_KIND, letter_id, _text(letter))
                self._log.put_document(KIND, letter_id, None)
        return len(wanted)

    def add(self, receiver: str, event: Event, attempt_count: int, error: str) -> DeadLetter:
        """Keep what a receiver has refused."""
        letter = DeadLetter(_letter_id(receiver, event), receiver, event, attempt_count, error, self._clock.now())
        self._put(letter)
        return letter

    def queued(self, receiver: str) -> tuple[DeadLetter, ...]:
        """Return what is to be sent anew to a receiver, in the order of the slots."""
        letters = [letter for letter in self._read(QUEUED_KIND) if letter.receiver == receiver]
        return tuple(sorted(letters, key=lambda letter: (letter.event.slot, letter.id)))

    def settle(self, letter: DeadLetter) -> None:
        """Forget a queued letter that has been delivered."""
        self._log.put_document(QUEUED_KIND, letter.id, None)

    def give_back(self, letter: DeadLetter, attempt_count: int, error: str) -> None:
        """Put a queued letter back into the list after so many more attempts."""
        failed = self._clock.now()
        self._put(replace(letter, attempt_count=letter.attempt_count + attempt_count, error=error, failed=failed))
        self._log.put_document(QUEUED_KIND, letter.id, None)

    def give_back_unknown(self, receivers: Collection[str]) -> None:
        """Put back whatever is queued for none of these receivers."""
        for letter in self._read(QUEUED_KIND):
            if letter.receiver not in receivers:
                self.give_back(letter, 0, "there is no receiver of this name any more")

    def _put(self, letter: DeadLetter) -> None:
        self._log.put_document(KIND, letter.id, _text(letter))
        with self._lock:
            self._room -= 1
            if self._room >= 0:
                return
            dropped = self._drop()
        if dropped:
            self._on_dropped(len(dropped))
            _log.warning(
                "%d dead letters dropped, because there were more than %d; the newest of them: event %s for %s",
                len(dropped),
                self._most,
                dropped[0].event.id,
                dropped[0].receiver,
            )

    def _drop(self) -> Sequence[DeadLetter]:
        """Delete the oldest if there are too many, a tenth at a time, so that counting stays rare."""
        newest_first = self._read(KIND)
        kept = len(newest_first) if len(newest_first) <= self._most else self._most - self._most // 10
        for old in newest_first[kept:]:
            self._log.put_document(KIND, old.id, None)
        self._room = self._most - kept
        return newest_first[kept:]

    def _read(self, kind: str) -> tuple[DeadLetter, ...]:
        """Return all letters of a kind that this version can read, the newest first."""
        found = []
        for key, text in self._log.documents(kind).items():
            try:
                found.append(_letter(key, text))
            except (ValueError, KeyError, TypeError):
                _log.warning("dead letter %s is left alone: another version of this service has written it", key)
        return tuple(sorted(found, key=lambda letter: letter.key, reverse=True))


def _letter_id(receiver: str, event: Event) -> str:
    text = f"{receiver}|{event.id}"
    return hashlib.blake2b(text.encode(), digest_size=8, person=b"tickwatch-letter").hexdigest()


def _text(letter: DeadLetter) -> str:
    document = {
        "receiver": letter.receiver,
        "event": event_document(letter.event),
        "attempt_count": letter.attempt_count,
        "error": letter.error,
        "failed": letter.failed,
    }
    return json.dumps(document, sort_keys=True, allow_nan=False)


def _letter(key: str, text: str) -> DeadLetter:
    document = json.loads(text)
    event = event_from_document(document["event"])
    return DeadLetter(
        key, document["receiver"], event, document["attempt_count"], document["error"], document["failed"]
    )
