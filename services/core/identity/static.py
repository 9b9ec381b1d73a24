"""Tokens that somebody has written into a file, such as a mounted secret.

    tokens:
      - name: dashboard      # for logs and errors
        role: read           # or admin
        token: …             # at least 32 characters, as `openssl rand -hex 32` makes them

Several tokens may have one name, so that a new one is handed out before the old one goes. Nothing that is said of the
file repeats a word of it but names and roles.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
from collections.abc import Hashable
from pathlib import Path

from services.core.documents import Node, load_document
from services.core.errors import InvalidSettingError
from services.core.files import stamp
from services.core.identity.base import Caller, Role, TokenVerifier
from services.core.reading import Reading

LEAST_TOKEN_CHARACTERS = 32

_EXAMPLE = "as in {name: dashboard, role: read, token: …}"
_KEYS = ("name", "role", "token")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TOKEN = re.compile(r"[!-~]+")

_log = logging.getLogger(__name__)


class FileTokens(TokenVerifier):
    """The tokens of a file, read again when it changes; a file that is no good leaves those before in force.

    Raises InvalidSettingError for a file that is no good from the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._seen: Hashable = stamp(path)
        self._callers = read_tokens(path)

    def verify(self, token: str) -> Caller | None:
        if stamp(self._path) != self._seen:
            self._read_again()
        asked, known = _digest(token), None
        for digest, caller in self._callers.items():
            # All of them, and digests, so that the time it takes says nothing of any token.
            if hmac.compare_digest(asked, digest):
                known = caller
        return known

    def _read_again(self) -> None:
        with self._guard:
            found = stamp(self._path)
            if found == self._seen:
                return
            self._seen = found
            try:
                self._callers = read_tokens(self._path)
            except InvalidSettingError as error:
                _log.error("the tokens stay what they were: %s", error)
                return
        _log.info("%d tokens have been read anew from %s", len(self._callers), self._path)


def read_tokens(path: Path) -> dict[bytes, Caller]:
    """Return whose each token is, by its digest; raises one InvalidSettingError that lists all problems, with lines."""
    reading = _TokenReading()
    try:
        document = load_document(path)
    except InvalidSettingError as error:
        # What a parser says of a file may quote it.
        problem = error.problem if error.problem.startswith("cannot be read") else "is not YAML"
        raise InvalidSettingError(error.field, problem) from None
    callers = reading.callers(document) if document else {}
    reading.finish(path)
    if not callers:
        raise InvalidSettingError(str(path), "there are no tokens", _EXAMPLE)
    return callers


class _TokenReading(Reading):
    """One reading of a file of tokens."""

    def callers(self, document: Node) -> dict[bytes, Caller]:
        found: dict[bytes, Caller] = {}
        tokens = self._fields(document, ("tokens",)).get("tokens")
        for item in self.items(tokens) if tokens else []:
            fields = self._fields(item, _KEYS)
            for missing in sorted(set(_KEYS) - fields.keys()):
                self.say(item.where, f"a token needs the key {missing!r}", _EXAMPLE)
            if len(fields) < len(_KEYS):
                continue
            name, role, digest = self._name(fields["name"]), self._role(fields["role"]), self._token(fields["token"])
            if digest in found:
                self.say(fields["token"].where, "the token is given twice", "each once, with one role")
            elif name and role and digest:
                found[digest] = Caller(name, role)
        return found

    def _fields(self, node: Node, known: tuple[str, ...]) -> dict[str, Node]:
        """Return a mapping by key without repeating a key that is not known: it may be a token in the wrong place."""
        result: dict[str, Node] = {}
        try:
            entries = node.entries()
        except InvalidSettingError as error:
            self.problems.append(error)
            return {}
        for key, where, value in entries:
            if key not in known:
                self.say(where, "there is an unknown key", f"known here: {', '.join(known)}")
            elif key in result:
                self.say(where, f"the key {key!r} is given twice", f"first at {result[key].where}")
            else:
                result[key] = value
        return result

    def _name(self, node: Node) -> str:
        name = self.scalar(node)
        if isinstance(name, str) and _NAME.fullmatch(name):
            return name
        self.say(node.where, "the name is not one", "letters, digits, ., - and _, at most 63")
        return ""

    def _role(self, node: Node) -> Role | None:
        role = self.scalar(node)
        if role in ("read", "admin"):
            return Role[str(role).upper()]
        self.say(node.where, "the role is not one", "read or admin")
        return None

    def _token(self, node: Node) -> bytes:
        token = self.scalar(node)
        if not isinstance(token, str):
            self.say(node.where, "the token is not text", "in quotes where it looks like a number")
        elif len(token) < LEAST_TOKEN_CHARACTERS:
            self.say(
                node.where, f"the token is shorter than {LEAST_TOKEN_CHARACTERS} characters", "openssl rand -hex 32"
            )
        elif not _TOKEN.fullmatch(token):
            self.say(node.where, "the token has other than visible ASCII characters", "openssl rand -hex 32")
        else:
            return _digest(token)
        return b""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
