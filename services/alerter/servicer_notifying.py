"""The methods of AlertService about who is notified, on the wire: silences and dead letters."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Mapping

from tickwatch.v1 import alert_pb2 as wire

from services.alerter.notifying.dead_letters import DeadLetter, DeadLetters, LetterKey
from services.alerter.notifying.silences import Silence, Silences
from services.core import names
from services.core.errors import InvalidInputError, InvalidPageTokenError
from services.core.rpc import convert_alerts
from services.core.rpc.convert import from_wire_message, to_wire_moment
from services.core.rpc.interceptors import Context, UnaryBehavior
from services.core.rpc.paging import PageTokens, page_size
from services.core.store.gate import StoreGate

LARGEST_PAGE = 1000
MOST_RESENT = 1000

_LETTER = struct.Struct(">d")

_ID = re.compile(names.ID)
_ID_HINT = "16 hexadecimal digits, as they are listed"


class NotifyingMethods:
    """The methods, each from bytes to bytes."""

    def __init__(self, silences: Silences, letters: DeadLetters, gate: StoreGate, tokens: PageTokens) -> None:
        self._silences = silences
        self._letters = letters
        self._gate = gate
        self._tokens = tokens

    @property
    def methods(self) -> Mapping[str, UnaryBehavior]:
        """The methods by name."""
        return {
            "CreateSilence": self.create_silence,
            "ExpireSilence": self.expire_silence,
            "ListDeadLetters": self.list_dead_letters,
            "ResendDeadLetters": self.resend_dead_letters,
        }

    def create_silence(self, request: bytes, context: Context) -> bytes:
        """CreateSilence."""
        asked = from_wire_message(wire.CreateSilenceRequest, request)
        if not asked.HasField("duration"):
            raise InvalidInputError("duration", "is required", "from 1 minute to 30 days")
        create = functools.partial(
            self._silences.create,
            tuple(asked.rules),
            convert_alerts.from_wire_selector(asked.selector),
            asked.duration.seconds + asked.duration.nanos / 1e9,
            asked.comment,
        )
        silence = self._gate.read(create, context.time_remaining())
        return wire.CreateSilenceResponse(silence=to_wire_silence(silence)).SerializeToString()

    def expire_silence(self, request: bytes, context: Context) -> bytes:
        """ExpireSilence."""
        asked = from_wire_message(wire.ExpireSilenceRequest, request)
        _check_id(asked.id, "id")
        self._gate.read(functools.partial(self._silences.expire, asked.id), context.time_remaining())
        return wire.ExpireSilenceResponse().SerializeToString()

    def list_dead_letters(self, request: bytes, context: Context) -> bytes:
        """ListDeadLetters: the newest first, so that letters that come between two pages change nothing."""
        asked = from_wire_message(wire.ListDeadLettersRequest, request)
        size = page_size(asked.page_size, largest=LARGEST_PAGE)
        before = None
        if asked.page_token:
            before = _from_payload(self._tokens.open("ListDeadLetters", b"", asked.page_token))
        read = functools.partial(self._letters.list, size + 1, before)
        letters = self._gate.read(read, context.time_remaining())
        response = wire.ListDeadLettersResponse(dead_letters=map(_to_wire_letter, letters[:size]))
        if len(letters) > size:
            response.next_page_token = self._tokens.issue("ListDeadLetters", b"", _payload(letters[size - 1].key))
        return response.SerializeToString()

    def resend_dead_letters(self, request: bytes, context: Context) -> bytes:
        """ResendDeadLetters."""
        asked = from_wire_message(wire.ResendDeadLettersRequest, request)
        if len(asked.ids) > MOST_RESENT:
            raise InvalidInputError("ids", f"{len(asked.ids)} ids", f"at most {MOST_RESENT}, or none for all")
        for place, letter_id in enumerate(asked.ids):
            _check_id(letter_id, f"ids[{place}]")
        resend = functools.partial(self._letters.resend, tuple(asked.ids))
        count = self._gate.read(resend, context.time_remaining())
        return wire.ResendDeadLettersResponse(queued_count=count).SerializeToString()


def to_wire_silence(silence: Silence) -> wire.Silence:
    """Return a silence's message."""
    return wire.Silence(
        id=silence.id,
        rules=silence.rules,
        selector=convert_alerts.to_wire_selector(silence.selector),
        start_time=to_wire_moment(silence.start),
        end_time=to_wire_moment(silence.end),
        comment=silence.comment,
    )


def _to_wire_letter(letter: DeadLetter) -> wire.DeadLetter:
    return wire.DeadLetter(
        id=letter.id,
        receiver=letter.receiver,
        event=convert_alerts.to_wire_event(letter.event),
        attempt_count=letter.attempt_count,
        error=letter.error,
        failed_time=to_wire_moment(letter.failed),
    )


def _check_id(text: str, field: str) -> None:
    if not text:
        raise InvalidInputError(field, "is required", _ID_HINT)
    if not _ID.fullmatch(text):
        raise InvalidInputError(field, f"{text!r} is no id", _ID_HINT)


def _payload(key: LetterKey) -> bytes:
    return _LETTER.pack(key.failed) + key.id.encode()


def _from_payload(payload: bytes) -> LetterKey:
    try:
        (failed,) = _LETTER.unpack(payload[: _LETTER.size])
        return LetterKey(failed, payload[_LETTER.size :].decode())
    except (struct.error, UnicodeDecodeError) as error:
        raise InvalidPageTokenError("was issued by another version of this service") from error
