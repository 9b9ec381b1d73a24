"""Silences: which breaches nobody is to be notified of, and until when.

They are documents beside the log of breaches, so that every replica and every process sees the same ones. What a
silence covers is still evaluated, logged and streamed. It knows nothing of how notifications are sent.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from services.core import names
from services.core.breaches import Event
from services.core.clock import Clock
from services.core.errors import InvalidInputError, SilenceNotFoundError
from services.core.rules import Selector, check_globs
from services.core.store.base import BreachLog

KIND = "silence"
"""Of the documents: key: the silence's id, text: JSON with the fields of `Silence`, times in seconds since 1970."""

SHORTEST_SECONDS = 60
LONGEST_SECONDS = 30 * 86_400
LONGEST_COMMENT = 1000

CACHE_SECONDS = 2.0
"""How long what was read holds: within this time the others learn of a new silence."""

_KEPT_SECONDS = 300.0
"""How long one that is over is kept: a replica whose clock is ahead must not end what others still honour."""

_RULE = re.compile(names.RULE_OR_GLOB)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Silence:
    """A selection of breaches, and [start, end) in seconds since 1970. Empty globs select all."""

    id: str
    rules: tuple[str, ...]
    """By name or by glob."""
    selector: Selector
    start: float
    end: float
    comment: str = ""

    def holds_at(self, at: float) -> bool:
        """Whether it is in force at this moment."""
        return self.start <= at < self.end

    def covers_rule(self, rule: str) -> bool:
        """Whether it is about this rule, on whichever series."""
        return _fits(rule, self.rules)

    def covers(self, event: Event) -> bool:
        """Whether it is about this event.

        What concerns a whole exchange is covered where a glob for metrics fits EXCHANGE: with nothing behind, as *
        and KRAKEN:* do, and a glob for measures nothing at all, as * does.
        """
        subject, selector = event.subject, self.selector
        return (
            _fits(event.rule, self.rules)
            and _fits(subject.exchange, selector.exchanges)
            and _fits(subject.metric or f"{subject.exchange}:", selector.metrics)
            and _fits(subject.measure.value if subject.measure else "", selector.measures)
        )


class Silences:
    """The silences of a log. May be called from any thread; what reads the store may raise StoreError."""

    def __init__(self, log: BreachLog, clock: Clock, *, cache_seconds: float = CACHE_SECONDS) -> None:
        self._log = log
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._known: tuple[Silence, ...] = ()
        self._read_at: float | None = None
        self._unreadable: set[str] = set()

    def create(self, rules: Sequence[str], selector: Selector, duration_seconds: float, comment: str = "") -> Silence:
        """Silence a selection from now on.

        Raises InvalidInputError, naming the field of CreateSilenceRequest, for a duration below a minute or above 30
        days, for what is no glob of a rule, and for too many globs or too long a comment.
        """
        if not SHORTEST_SECONDS <= duration_seconds <= LONGEST_SECONDS:
            shown = f"{duration_seconds:.10g} s" if math.isfinite(duration_seconds) else str(duration_seconds)
            raise InvalidInputError("duration", f"{shown} is out of range", "1 minute to 30 days")
        check_globs("rules", rules, _RULE, "a rule's name or a glob of one, such as missing or three-*")
        if len(comment) > LONGEST_COMMENT:
            raise InvalidInputError("comment", f"{len(comment)} characters", f"at most {LONGEST_COMMENT}")
        now = self._clock.now()
        silence = Silence(secrets.token_hex(8), tuple(rules), selector, now, now + duration_seconds, comment)
        self._log.put_document(KIND, silence.id, _text(silence))
        self._forget()
        return silence

    def expire(self, silence_id: str) -> None:
        """End a silence at once; raises SilenceNotFoundError where none of this id holds."""
        self._forget()
        if silence_id not in {silence.id for silence in self.list()}:
            raise SilenceNotFoundError(silence_id)
        self._log.put_document(KIND, silence_id, None)
        self._forget()

    def list(self) -> tuple[Silence, ...]:
        """Return those that hold or are still to come, by their end."""
        now = self._clock.now()
        return tuple(silence for silence in self._current(now) if silence.end > now)

    def holding(self, rule: str) -> tuple[str, ...]:
        """Return the ids of those that hold now for a rule, on whichever series, by their end."""
        now = self._clock.now()
        return tuple(
            silence.id for silence in self._current(now) if silence.holds_at(now) and silence.covers_rule(rule)
        )

    def holds_for(self, event: Event, at: float) -> bool:
        """Whether any holds for an event at a moment, in seconds since 1970; asks the store every few seconds only."""
        return any(silence.holds_at(at) and silence.covers(event) for silence in self._current(self._clock.now()))

    def silenced(self, event: Event) -> bool:
        """Whether any holds for an event now."""
        return self.holds_for(event, self._clock.now())

    def _current(self, now: float) -> tuple[Silence, ...]:
        with self._lock:
            if self._read_at is None or not 0 <= now - self._read_at < self._cache_seconds:
                self._known = self._read(now)
                self._read_at = now
            return self._known

    def _forget(self) -> None:
        with self._lock:
            self._read_at = None

    def _read(self, now: float) -> tuple[Silence, ...]:
        """Read all; delete those that have long been over."""
        found = []
        for key, text in self._log.documents(KIND).items():
            silence = self._parse(key, text)
            if silence and silence.end + _KEPT_SECONDS <= now:
                self._log.put_document(KIND, key, None)
            elif silence:
                found.append(silence)
        return tuple(sorted(found, key=lambda silence: (silence.end, silence.id)))

    def _parse(self, key: str, text: str) -> Silence | None:
        """Return a document's silence, or None for one of another version, which is left alone."""
        try:
            document = json.loads(text)
            selector = Selector(*(tuple(document[field]) for field in ("exchanges", "metrics", "measures")))
            times = float(document["start"]), float(document["end"])
            return Silence(key, tuple(document["rules"]), selector, *times, document["comment"])
        except (ValueError, KeyError, TypeError, InvalidInputError):
            if key not in self._unreadable:
                self._unreadable.add(key)
                _log.warning("silence %s is ignored: another version of this service has written it", key)
            return None


def _fits(name: str, globs: tuple[str, ...]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


def _text(silence: Silence) -> str:
    return json.dumps(
        {
            "rules": silence.rules,
            "exchanges": silence.selector.exchanges,
            "metrics": silence.selector.metrics,
            "measures": silence.selector.measures,
            "start": silence.start,
            "end": silence.end,
            "comment": silence.comment,
        }
    )
