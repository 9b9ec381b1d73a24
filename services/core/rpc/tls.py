"""TLS for a server, from files that somebody else renews: each new connection gets the newest certificate there is.

It knows files and gRPC, and nothing of who may call what.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

from services.core.errors import InvalidSettingError
from services.core.files import stamp

_Fetcher = Callable[[], grpc.ServerCertificateConfiguration]  # the stubs forget that it may return None

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a server's certificate is, in PEM."""

    certificate: Path
    """The server's certificate, and after it those that lead to its authority."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None = None
    """The authorities of which one has to have signed a caller's certificate. None: callers need none."""


class ServerCertificates:
    """Credentials of a server that follow their files."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._paths = tuple(path for path in (files.certificate, files.key, files.client_ca) if path is not None)
        self._guard = threading.Lock()
        self._seen: Hashable = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return them; raises InvalidSettingError for files that are no good."""
        self._seen = stamp(*self._paths)
        return grpc.dynamic_ssl_server_credentials(
            self._read(), cast("_Fetcher", self._newer), require_client_authentication=self._files.client_ca is not None
        )

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold if they have changed; gRPC asks before every handshake, in a thread of its own.

        Where they do not fit together, because they are being replaced one after the other, what was goes on.
        """
        with self._guard:
            found = stamp(*self._paths)
            if found == self._seen:
                return None
            # Files half replaced change again, so that each state is read, and told of, once.
            self._seen = found
            try:
                configuration = self._read()
            except InvalidSettingError as error:
                _log.error("the certificate stays what it was: %s", error)
                return None
        _log.info("the certificate has been read anew from %s", self._files.certificate)
        return configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        certificate = _content(files.certificate, "server.tls.certificate_file")
        key = _content(files.key, "server.tls.key_file")
        authorities = None if files.client_ca is None else _content(files.client_ca, "server.tls.client_ca_file")
        _check_pair(files)
        if files.client_ca is not None:
            _check_authorities(files.client_ca)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities)


def _content(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettingError(setting, f"{path} cannot be read: {error.strerror}") from error


def _check_pair(files: TlsFiles) -> None:
    """Raise InvalidSettingError unless key and certificate belong together: gRPC would refuse each caller instead."""
    try:
        # Without a passphrase at hand OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise InvalidSettingError(
            "server.tls",
            f"{files.certificate} and {files.key} are not a certificate and its key",
            "both in PEM, the key without a passphrase",
        ) from error


def _check_authorities(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise InvalidSettingError("server.tls.client_ca_file", f"{path} holds no certificates in PEM") from error
