"""Page tokens (AIP-158): opaque, URL-safe, not to be forged, and bound to the request they continue.

A token is base64url of a keyed digest and a payload. The digest covers the method, the arguments that must not change
between pages, and the payload, so that a token for another request is as wrong as a made-up one; which of the two it is
is said, because a caller who changed an argument needs to know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from services.core.errors import InvalidInputError, InvalidPageTokenError

DEFAULT_PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 10_000

_DIGEST_BYTES = 12
_LONGEST_TOKEN = 512


def page_size(
    asked: int, *, field: str = "page_size", default: int = DEFAULT_PAGE_SIZE, largest: int = LARGEST_PAGE_SIZE
) -> int:
    """Return the size that a page_size, or `field`, asks for; raise InvalidInputError for one below zero."""
    if asked < 0:
        raise InvalidInputError(field, f"{asked} is below 0", f"0 for the default of {default}, or up to {largest}")
    return min(asked or default, largest)


class PageTokens:
    """Issues and checks tokens under one key; servers behind one name have to share it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, method: str, arguments: bytes, payload: bytes) -> str:
        """Return a token that hands `payload` to the next call of this method with these arguments."""
        bound = self._digest(method.encode(), payload, arguments)
        sealed = self._digest(b"token", payload, bound)
        return base64.urlsafe_b64encode(sealed + bound + self._veil(sealed, payload)).rstrip(b"=").decode()

    def open(self, method: str, arguments: bytes, token: str) -> bytes:
        """Return the payload of a token; raise InvalidPageTokenError where it is forged or of another request."""
        if len(token) > _LONGEST_TOKEN:
            raise InvalidPageTokenError("was not issued by this service")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
            raw = b""  # another spelling of the same bytes, which this service does not use
        sealed, bound, veiled = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES : 2 * _DIGEST_BYTES], raw[2 * _DIGEST_BYTES :]
        payload = self._veil(sealed, veiled)
        if not hmac.compare_digest(sealed, self._digest(b"token", payload, bound)):
            raise InvalidPageTokenError("was not issued by this service")
        if not hmac.compare_digest(bound, self._digest(method.encode(), payload, arguments)):
            raise InvalidPageTokenError("belongs to a request with other arguments")
        return payload

    def _veil(self, sealed: bytes, payload: bytes) -> bytes:
        """Hide or show a payload, so that callers come to rely on nothing in it; its own digest is the nonce."""
        stream = b"".join(
            self._digest(b"veil", sealed, number.to_bytes(2)) for number in range(-(-len(payload) // _DIGEST_BYTES))
        )
        return bytes(a ^ b for a, b in zip(payload, stream, strict=False))

    def _digest(self, purpose: bytes, payload: bytes, arguments: bytes) -> bytes:
        parts = b"".join(len(part).to_bytes(4) + part for part in (purpose, payload, arguments))
        return hashlib.blake2b(parts, key=self._key, digest_size=_DIGEST_BYTES).digest()
