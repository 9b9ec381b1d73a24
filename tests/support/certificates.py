"""Certificates made as a test runs, written the way a cluster replaces them: each file by a rename."""

from __future__ import annotations

import itertools
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

_numbers = itertools.count()


class Pair(NamedTuple):
    """Where a certificate and its key are."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `ca` is the file by which others know it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / f"ca-{next(_numbers)}.pem"
        replace(self.ca, self._ca.cert_pem.bytes())

    def issue(
        self, *names: str, common_name: str | None = None, into: Pair | None = None, expired: bool = False
    ) -> Pair:
        """Write a certificate for names and its key, over those of `into` where that is given."""
        number = next(_numbers)
        pair = into or Pair(self._folder / f"cert-{number}.pem", self._folder / f"key-{number}.pem")
        ended = datetime.now(UTC) - timedelta(hours=1) if expired else None
        issued = self._ca.issue_cert(*names, common_name=common_name, not_after=ended)
        # The key first, as where somebody replaces them one by one: for a moment the two do not fit together.
        replace(pair.key, issued.private_key_pem.bytes())
        replace(pair.cert, b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return pair


def replace(path: Path, content: bytes | str) -> None:
    """Put a new file in the place of one, at once."""
    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(beside, path)  # noqa: PTH105 - the name says what it is about


def new_token() -> str:
    """Return a token nobody else has."""
    return secrets.token_hex(32)


def tokens_text(*tokens: tuple[str, str, str]) -> str:
    """Return a file of tokens: name, role and token of each."""
    lines = [f"  - {{name: {name}, role: {role}, token: '{token}'}}" for name, role, token in tokens]
    return "\n".join(["tokens:", *lines]) + "\n"
