"""Settings of what stands between servers and their callers: certificates, tokens, limits, on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from services.core.sections import Section
from services.core.setting_types import AccountGlobs, Audience, NameGlobs


class TlsSettings(Section, frozen=True):
    """The certificate that our servers show, and those that callers have to show. Files are read again when they
    change.
    """

    certificate_file: Path | None = None
    """The servers' certificate and those that lead to its authority, in PEM. None: no TLS."""
    key_file: Path | None = None
    """Its private key, in PEM, without a passphrase."""
    client_ca_file: Path | None = None
    """The authorities, in PEM, of which one has to have signed a caller's certificate. None: callers need none."""
    client_admins: NameGlobs = ()
    """Whose certificates may do everything where no tokens are asked for: common or alternative names, or globs. All
    others may read."""

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: set both or neither")
        if self.client_ca_file is not None and self.certificate_file is None:
            raise ValueError("client_ca_file needs certificate_file and key_file")
        if self.client_admins and self.client_ca_file is None:
            raise ValueError("client_admins needs client_ca_file: names count only in certificates that are verified")


class ServiceAccountSettings(Section, frozen=True):
    """Callers who show the token of a Kubernetes service account."""

    audience: Audience | None = None
    """For whom their tokens have to be; such as tickwatch. None: such tokens are not taken."""
    readers: AccountGlobs = ()
    """Who may read: NAMESPACE/NAME, or globs such as monitoring/*."""
    admins: AccountGlobs = ()
    """Who may do everything, written likewise."""

    def __post_init__(self) -> None:
        if self.audience is None and (self.readers or self.admins):
            raise ValueError("readers and admins need an audience, as in audience: tickwatch")
        if self.audience is not None and not (self.readers or self.admins):
            raise ValueError("an audience lets nobody in by itself: name readers or admins")


class ServerSettings(Section, frozen=True):
    """What every gRPC server asks of its callers, and how much of them it bears."""

    tls: TlsSettings = TlsSettings()
    tokens_file: Path | None = None
    """A YAML file of tokens that callers may show, read again when it changes. None: none."""
    service_accounts: ServiceAccountSettings = ServiceAccountSettings()
    insecure: bool = False
    """Whether servers may listen where others reach them without TLS, or without asking who calls."""
    max_calls: Annotated[int, Meta(ge=16, le=1_000_000)] = 8192
    """How many calls may be open or waiting at once in a process, streams and watchers of health among them. Above
    what streams are allowed: it is there for a flood."""
    max_streams_per_client: Annotated[int, Meta(ge=1, le=100_000)] = 128
    """How many streams of a kind one caller may have at once, or one address where callers have no name. Half of what
    the query service bears: nobody takes it all."""


class CredentialSettings(Section, frozen=True):
    """What one of our own clients shows to a server. Files are read again when they change."""

    tls: bool | None = None
    """Whether it speaks TLS. None: if any of the others is set."""
    ca_file: Path | None = None
    """The authorities, in PEM, of which one has to have signed the server's certificate. None: those of gRPC."""
    certificate_file: Path | None = None
    """The client's own certificate, in PEM, for servers that ask for one."""
    key_file: Path | None = None
    """Its private key, in PEM."""
    token_file: Path | None = None
    """A file that holds the token to show."""

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: set both or neither")
        if self.tls is False and (self.ca_file or self.certificate_file):
            raise ValueError("tls is off, so ca_file and certificate_file would not be used: leave tls or them out")
