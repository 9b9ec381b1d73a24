"""Cursors: where a stream of breaches stands, as text that callers hand back and understand nothing of.

A cursor is 33 bytes as base64url: a version (1 byte), the log's id (16), slot (8) and ordinal (4) of a `Position`, and
a CRC-32 of all that (4), which tells a mangled cursor from one of another log. It is no secret and no proof.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

from services.core.breaches import Position
from services.core.errors import InvalidCursorError
from services.core.model import Slot

_FORMAT = struct.Struct(">B16sqI")
_VERSION = 1
_CHARACTERS = 44


def cursor_text(log_id: str, position: Position) -> str:
    """Return the cursor of a position in the log of this id (32 hex digits)."""
    packed = _FORMAT.pack(_VERSION, bytes.fromhex(log_id), position.slot, position.ordinal)
    return base64.urlsafe_b64encode(packed + zlib.crc32(packed).to_bytes(4)).decode()


def read_cursor(text: str) -> tuple[str, Position]:
    """Return the log's id and the position of a cursor; raise InvalidCursorError for what is none."""
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True) if len(text) == _CHARACTERS else b""
    except (ValueError, binascii.Error):
        raw = b""
    packed, check = raw[: _FORMAT.size], raw[_FORMAT.size :]
    if len(packed) != _FORMAT.size or check != zlib.crc32(packed).to_bytes(4) or packed[0] != _VERSION:
        raise InvalidCursorError("is not one that a stream has sent")
    _, log_id, slot, ordinal = _FORMAT.unpack(packed)
    return log_id.hex(), Position(Slot(slot), ordinal)
