"""How a client shows who it is, and how it knows that the server is the right one.

Files are read again when they change, so that a client outlives its certificate and its token.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import grpc

from tickwatch.messages import wrong

_TOKEN = re.compile(r"[!-~]+")

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows to a server, and by what it knows the server.

    `tls` is whether to speak TLS; left out it is spoken if anything else is given, because a token sent in plain text
    is anybody's. `ca` is a PEM file of the authorities of which one has to have signed the server's certificate; left
    out they are those that gRPC comes with. `cert` and `key` are PEM files of the client's own certificate, for servers
    that ask for one. `token` is a bearer token, `token_file` a file that holds one, such as the projected token of a
    Kubernetes service account; at most one of the two.

    Every file is read again when it changes: a token for the next call, certificates for the next connection, while
    open streams go on. Raises InvalidInputError for what does not fit together.
    """

    tls: bool | None = None
    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = field(default=None)
    token: str | None = field(default=None, repr=False)
    token_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise wrong("cert" if self.cert is None else "key", "is missing; cert and key go together")
        if self.token is not None and self.token_file is not None:
            raise wrong("token_file", "is given beside token; one of them is enough")
        if self.tls is False and (self.ca is not None or self.cert is not None):
            raise wrong("tls", "is off, so ca and cert would not be used")
        if self.token is not None:
            _check_token(self.token, "token")

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls if self.tls is not None else any((self.ca, self.cert, self.token, self.token_file))


class CredentialReader:
    """Reads what credentials name, again when it has changed. It belongs to one client, and one event loop."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._paths = tuple(path for path in (credentials.ca, credentials.cert, credentials.key) if path)
        self._token_path = credentials.token_file
        self._token_seen: Hashable = object()
        self._metadata: Metadata = _authorization(credentials.token) if credentials.token else ()

    def with_token(self, token: str) -> CredentialReader:
        """Return a reader of the same certificates that has this token; raises InvalidInputError for what is none."""
        given = self._credentials
        return CredentialReader(replace(given, token=token, token_file=None, tls=given.secure))

    def stamp(self) -> Hashable:
        """Return another value whenever `channel` would return other credentials."""
        return tuple(_stamp(path) for path in self._paths)

    def channel(self) -> grpc.ChannelCredentials | None:
        """Return what a channel is opened with, None for plain text; raises InvalidInputError for unusable files."""
        given = self._credentials
        if not given.secure:
            return None
        ca = _content(given.ca, "ca") if given.ca is not None else None
        if given.ca is not None:
            _check_authorities(given.ca)
        if given.cert is None or given.key is None:
            return grpc.ssl_channel_credentials(ca)
        key, cert = _content(given.key, "key"), _content(given.cert, "cert")
        _check_pair(given.cert, given.key)
        return grpc.ssl_channel_credentials(ca, key, cert)

    def metadata(self) -> Metadata:
        """Return what every call carries; raises InvalidInputError for a token file that is no good."""
        if self._token_path is not None and (seen := _stamp(self._token_path)) != self._token_seen:
            token = _content(self._token_path, "token_file").decode(errors="replace").strip()
            _check_token(token, "token_file", os.fspath(self._token_path))
            self._metadata, self._token_seen = _authorization(token), seen
        return self._metadata


def _authorization(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def _check_token(token: str, name: str, where: str = "") -> None:
    """Raise InvalidInputError, which does not repeat it, unless a token can be sent."""
    if not _TOKEN.fullmatch(token):
        raise wrong(name, f"{where} is not a token: visible ASCII characters, and not empty".strip())


def _content(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # pathlib takes longer to be imported than the file to be read
            return file.read()
    except OSError as error:
        raise wrong(name, f"{os.fspath(path)} cannot be read: {error.strerror}") from error


def _check_pair(cert: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise wrong(
            "cert", f"{os.fspath(cert)} and {os.fspath(key)} are not a certificate and its key, in PEM"
        ) from error


def _check_authorities(path: str | os.PathLike[str]) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise wrong("ca", f"{os.fspath(path)} holds no certificates in PEM") from error


def _stamp(path: str | os.PathLike[str]) -> Hashable:
    """Return another value when a file is another; the inode counts, for a mounted secret is a new file each time."""
    try:
        found = os.stat(path)  # noqa: PTH116  # as above
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
