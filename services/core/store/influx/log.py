"""The log of breaches in InfluxDB, which has no transactions and keeps no order but that of time.

An entry is a point of measurement `breach` whose time is its position: the slot's start plus as many nanoseconds as its
ordinal. So whoever writes an entry of the same place replaces it. The checkpoint is written after the entries, and what
lies at or after its end is never read: leftovers of a killed writer, which the next one overwrites, and deletes where
it passes over places. `event` holds the event as JSON; the fields beside it are for people's own Flux,
and nobody reads them here.

Checkpoint and documents are points of measurement `alerting` with one time a day, so that rewriting replaces them; a
text is cut into pieces, because a string of InfluxDB's has at most 64 KB. A forgotten document has no pieces. A reader
may come while some fields are new and some still old; a text that is not what its digest says is read again.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote, unquote

from services.core.breach_documents import event_from_text, event_text
from services.core.breaches import Checkpoint, Event, LogEntry, Position
from services.core.clock import Clock
from services.core.errors import StoreUnavailableError
from services.core.model import SLOT_SECONDS, Slot
from services.core.store.base import BreachLog
from services.core.store.influx.bucket import NANOSECONDS, SECONDS, InfluxBucket
from services.core.store.influx.format import quoted
from services.core.store.log_rules import check_allowed, check_append, check_document, check_end, check_position
from services.core.store.retention import Retention

_ENTRY, _TEXT = "breach", "alerting"
_CHECKPOINT, _IDENTITY = "checkpoint", "identity"
_SECOND = 1_000_000_000
_SLOT = SLOT_SECONDS * _SECOND
_DAY_SECONDS = 86_400
_PIECE = 60_000
"""Characters of a text, all ASCII, in one field."""

_READS = 20
"""How often a text that is being written is read again; about every fiftieth reading meets a writing."""

_BODY_ENTRIES = 500
_RANGES_SLOTS = (120, 2880)
"""How far back the newest entries are looked for, before all that is kept is searched."""

_RANGE = "from(bucket: bucket) |> range(start: time(v: start), stop: time(v: stop))"
_EVENTS = f'{_RANGE} |> filter(fn: (r) => r._measurement == "{_ENTRY}" and r._field == "event")'
_TEXTS = (
    f'{_RANGE} |> filter(fn: (r) => r._measurement == "{_TEXT}" and r.kind == kind)'
    ' |> last() |> keep(columns: ["_time", "_field", "_value", "key"])'
)


class InfluxBreachLog(BreachLog):
    """The log in this bucket, which is the store's to close."""

    def __init__(self, bucket: InfluxBucket, *, clock: Clock, retention: Retention) -> None:
        self._bucket = bucket
        self._clock = clock
        self._retention = retention

    def log_id(self) -> str:
        if found := self._texts(_IDENTITY):
            return next(iter(found.values()))
        self._put(_IDENTITY, "log", secrets.token_hex(16))
        return next(iter(self._texts(_IDENTITY).values()))

    def checkpoint(self) -> Checkpoint | None:
        found = self._texts(_CHECKPOINT, days=2) or self._texts(_CHECKPOINT)
        if not found:
            return None
        document = json.loads(found["log"])
        return Checkpoint(Position(Slot(document["slot"]), document["ordinal"]), document["state"])

    def append(
        self,
        expected: Position | None,
        entries: Sequence[LogEntry],
        checkpoint: Checkpoint,
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        check_append(expected, entries, checkpoint)
        present = self.checkpoint()
        if not check_end(present, expected, checkpoint):
            return
        self._clear(expected or self.earliest(), entries, checkpoint.end, allowed)
        if present is None or present.end.slot * SLOT_SECONDS // _DAY_SECONDS != self._today() // _DAY_SECONDS:
            self._put(_IDENTITY, "log", self.log_id())  # written anew each day, so that the retention leaves it
        for first in range(0, len(entries), _BODY_ENTRIES):
            body = "\n".join(map(_line, entries[first : first + _BODY_ENTRIES])).encode()
            check_allowed(allowed)
            self._bucket.send(body, NANOSECONDS)
        document = {"slot": checkpoint.end.slot, "ordinal": checkpoint.end.ordinal, "state": checkpoint.state}
        self._put(_CHECKPOINT, "log", json.dumps(document, separators=(",", ":")), allowed)

    def _clear(self, start: Position, entries: Sequence[LogEntry], end: Position, allowed: Callable[[], bool]) -> None:
        """Delete leftovers between the entries to come: where a slot is left, the end passes over places."""
        whole = [start, *(Position(start.slot, start.ordinal + number) for number in range(1, len(entries) + 1))]
        if [*(entry.position for entry in entries), end] != whole and self._entries(start, end, "|> limit(n: 1)"):
            check_allowed(allowed)
            self._bucket.delete(_ENTRY, _nanoseconds(start), _nanoseconds(end))

    def read_after(self, position: Position, limit: int) -> tuple[LogEntry, ...]:
        check_position(position, self.earliest())
        end = self._end()
        if end is None or position >= end:
            return ()
        return self._entries(position, end, f'|> sort(columns: ["_time"]) |> limit(n: {int(limit)})')

    def read_before(self, position: Position | None, limit: int) -> tuple[LogEntry, ...]:
        end = self._end()
        if end is None:
            return ()
        end = end if position is None else min(position, end)
        oldest = self._retention.oldest()
        for back in (*_RANGES_SLOTS, end.slot - oldest):
            start = Position(Slot(max(oldest, end.slot - back)), 0)
            if start >= end:
                return ()
            found = self._entries(start, end, f'|> sort(columns: ["_time"], desc: true) |> limit(n: {int(limit)})')
            if len(found) == limit or start.slot == oldest:
                break
        return found

    def earliest(self) -> Position:
        return Position(self._retention.oldest(), 0)

    def put_document(self, kind: str, key: str, text: str | None) -> None:
        check_document(kind, key, text)
        self._put(f"document.{kind}", key, text)

    def documents(self, kind: str) -> dict[str, str]:
        return dict(sorted(self._texts(f"document.{kind}").items()))

    def _end(self) -> Position | None:
        checkpoint = self.checkpoint()
        return checkpoint.end if checkpoint else None

    def _entries(self, start: Position, end: Position, more: str) -> tuple[LogEntry, ...]:
        parameters = {"start": _nanoseconds(start), "stop": _nanoseconds(end)}
        rows = self._bucket.rows(
            f'{_EVENTS} |> keep(columns: ["_time", "_value"]) {more}'
            " |> map(fn: (r) => ({at: int(v: r._time), event: r._value}))",
            parameters,
        )
        return tuple(LogEntry(_position(int(row["at"])), event_from_text(row["event"])) for row in rows)

    def _put(self, kind: str, key: str, text: str | None, allowed: Callable[[], bool] = lambda: True) -> None:
        encoded = "" if text is None else json.dumps(text)
        pieces = [encoded[first : first + _PIECE] for first in range(0, len(encoded), _PIECE)]
        fields = [
            f"pieces={len(pieces)}i",
            f'digest="{_digest(encoded)}"',
            *(f"text{number}={quoted(piece)}" for number, piece in enumerate(pieces)),
        ]
        tags = f"kind={quote(kind, safe='')},key={quote(key, safe='')}"
        line = f"{_TEXT},{tags} {','.join(fields)} {self._today()}"
        # Asked once the text is there, and not before: to make it takes a while where thousands of episodes are open.
        check_allowed(allowed)
        self._bucket.send(line.encode(), SECONDS)

    def _texts(self, kind: str, days: int | None = None) -> dict[str, str]:
        """Return the newest text of each key of a kind, written in the last days or, without a number, ever."""
        for _ in range(_READS):
            found = {key: _joined(fields) for key, fields in self._fields(kind, days).items()}
            if None not in found.values():
                return {unquote(key): json.loads(text) for key, text in found.items() if text}
        raise StoreUnavailableError(
            self._bucket.url, f"{kind} is being written all the time: no reading of it was whole"
        )

    def _fields(self, kind: str, days: int | None) -> dict[str, dict[str, str]]:
        """Return the newest fields of each key of a kind."""
        back = self._retention.days if days is None else days
        stop = self._today() + 2 * _DAY_SECONDS
        start = stop - (back + 2) * _DAY_SECONDS
        parameters = {"start": start * _SECOND, "stop": stop * _SECOND, "kind": quote(kind, safe="")}
        newest: dict[str, str] = {}
        fields: dict[str, dict[str, str]] = {}
        for row in self._bucket.rows(_TEXTS, parameters):
            key = row["key"]
            if row["_time"] > newest.get(key, ""):
                newest[key], fields[key] = row["_time"], {}
            if row["_time"] == newest[key]:
                fields[key][row["_field"]] = row["_value"]
        return fields

    def _today(self) -> int:
        """Return the start of the present day of UTC, in seconds since the epoch."""
        return int(self._clock.now()) // _DAY_SECONDS * _DAY_SECONDS


def _joined(fields: dict[str, str]) -> str | None:
    """Return a text from its pieces, encoded; None where they are not all of one writing."""
    encoded = "".join(fields.get(f"text{number}", "") for number in range(int(fields.get("pieces", "0"))))
    return encoded if fields.get("digest") == _digest(encoded) else None


def _digest(encoded: str) -> str:
    return hashlib.blake2b(encoded.encode(), digest_size=16).hexdigest()


def _nanoseconds(position: Position) -> int:
    return position.slot * _SLOT + position.ordinal


def _position(nanoseconds: int) -> Position:
    slot, ordinal = divmod(nanoseconds, _SLOT)
    return Position(Slot(slot), ordinal)


def _line(entry: LogEntry) -> str:
    event = entry.event
    return f"{_ENTRY} {','.join(_fields(event))} {_nanoseconds(entry.position)}"


def _fields(event: Event) -> Iterable[str]:
    yield f"event={quoted(event_text(event))}"
    words = {
        "id": event.id,
        "kind": event.kind.value,
        "rule": event.rule,
        "severity": event.severity.name.lower(),
        "exchange": event.subject.exchange,
        "metric": event.subject.metric,
        "measure": event.subject.measure.value if event.subject.measure else "",
    }
    yield from (f"{name}={quoted(word)}" for name, word in words.items())
    numbers = {"value": event.value, "baseline": event.baseline, "ratio": event.ratio, "threshold": event.threshold}
    yield from (f"{name}={number!r}" for name, number in numbers.items() if math.isfinite(number))
