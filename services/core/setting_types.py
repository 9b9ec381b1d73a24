"""The forms that settings have: a type for each, which checks what was given and says what would be right.

A check of a text raises ValueError with words that follow the setting's name. Nothing here knows which settings there
are.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from services.core import names
from services.core.sections import Checked, Secret, Split


def _address(value: str) -> str:
    """Check HOST:PORT; 0 as port takes a free one."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s/\[\]]+):([0-9]{1,5})", value)
    if not found or int(found[2]) > 65_535:  # noqa: PLR2004  # the highest port
        raise ValueError(f"{value!r} is not HOST:PORT, as in 127.0.0.1:50051 or [::1]:50051")
    return value


def _base_url(value: str) -> str:
    """Check an HTTP address without a query."""
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError(f"{value!r} is not an address such as https://api.example.com")
    return value.rstrip("/")


def _secret_url(value: Secret) -> Secret:
    """Check an address that may itself be a secret, as those of chats and dead man's switches are: never repeat it."""
    url = value.reveal()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not an address such as https://hooks.example.com/tickwatch") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("is not an http:// or https:// address")
    if "@" in parts.netloc:
        raise ValueError("has a user or a password in it, and requests are signed instead")
    if not host or parts.fragment or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("is not an address such as https://hooks.example.com/tickwatch")
    return value


def _receiver_name(value: str) -> str:
    """Check a receiver's name; small letters, because variables cannot tell capitals."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", value) or "__" in value:
        raise ValueError(f"{value!r} is not a receiver's name: small letters, digits, - and _, at most 63")
    return value


def _some_text(value: str) -> str:
    if not value:
        raise ValueError("input should not be empty")
    return value


def _matching(pattern: str, otherwise: str) -> Checked:
    """Check that a text is of this pattern; `otherwise` says what is wrong and what would be right."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} {otherwise}")
        return value

    return Checked(check)


Name = Annotated[
    str,
    _matching(
        r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "is not a name of Kubernetes': small letters, digits and -, at most 63"
    ),
]
Address = Annotated[str, Checked(_address)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecretUrl = Annotated[Secret, Checked(_secret_url)]
Words = Annotated[tuple[str, ...], Split()]
Audience = Annotated[str, _matching(r"[!-~]{1,253}", "is not an audience: visible ASCII characters, as in tickwatch")]
AccountGlob = Annotated[
    str, _matching(r"[a-z0-9.*?-]{1,63}/[a-z0-9.*?-]{1,253}", "is not NAMESPACE/NAME, or a glob such as monitoring/*")
]
AccountGlobs = Annotated[tuple[AccountGlob, ...], Split()]
NameGlobs = Annotated[tuple[Annotated[str, Checked(_some_text)], ...], Split()]
RuleGlob = Annotated[
    str,
    _matching(names.RULE_OR_GLOB, "is neither a rule's name nor a glob: letters, digits, -, _, * and ?, at most 64"),
]
RuleGlobs = Annotated[tuple[RuleGlob, ...], Split()]
BaseUrl = Annotated[str, Checked(_base_url)]
ReceiverName = Annotated[str, Checked(_receiver_name)]
