"""From settings to how a server is protected, and the refusal to listen to the world without protection.

Beside `wiring`, for what listens alone.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal

import tickwatch

from services.core.errors import InvalidSettingError
from services.core.rpc.access import Access, Protection
from services.core.rpc.tls import TlsFiles
from services.core.server_settings import CredentialSettings, ServerSettings
from services.core.settings import Settings
from services.core.telemetry import parse_listen

if TYPE_CHECKING:
    from services.core.identity.base import TokenVerifier


def protection(settings: Settings, role: Literal["query", "alerter"], listen: str) -> Protection:
    """Return how the server of a role that listens there is protected.

    Raises InvalidSettingError for an address that others can reach unless TLS and either tokens or clients'
    certificates protect it, or `server.insecure` says that nothing needs to; for files that are no good; and for
    limits of which one makes the other useless.
    """
    server, own = settings.server, settings.query if role == "query" else settings.alerter
    if own.max_streams >= server.max_calls:
        raise InvalidSettingError(
            "server.max_calls",
            f"{server.max_calls} is not above {role}.max_streams, which is {own.max_streams}",
            "streams are calls too: leave room for others",
        )
    tokens = server.tokens_file is not None or server.service_accounts.audience is not None
    if not server.insecure and not _loopback(listen, f"{role}.listen"):
        _require_protection(server, f"{role}.listen", listen, tokens=tokens)
    verifier = _verifier(settings) if tokens else None
    certificates = server.tls.client_ca_file is not None
    return Protection(
        tls=_tls_files(server),
        access=Access(verifier, admins=server.tls.client_admins) if tokens or certificates else None,
        health_listen=own.health_listen,
        max_calls=server.max_calls,
        max_streams_per_client=server.max_streams_per_client,
    )


def check_gateway(settings: Settings, listen: str) -> None:
    """Raise InvalidSettingError where a gateway that listens there would read for strangers and nobody has said so.

    It asks nobody itself; what protects it is that it hands on its callers' tokens to services that ask for them. So
    those have to speak TLS, as services that ask do, and the gateway has to have nothing of its own to show instead.
    """
    shown = settings.gateway.credentials
    if settings.gateway.insecure or _loopback(listen, "gateway.listen"):
        return
    if shown.token_file is not None or shown.certificate_file is not None:
        problem = "it reads for whoever shows no token, by its own gateway.credentials"
    elif not client_credentials(shown).secure:
        problem = "the services behind it ask nobody"
    else:
        return
    raise InvalidSettingError(
        "gateway.listen",
        f"{listen} can be reached from other machines, and {problem}",
        "set gateway.credentials.tls or ca_file and no more, so that callers have to bring tokens of their own; or"
        " listen on 127.0.0.1; or set gateway.insecure: true to let everybody read",
    )


def client_credentials(settings: CredentialSettings) -> tickwatch.Credentials:
    """Return how one of our own clients shows who it is."""
    return tickwatch.Credentials(
        tls=settings.tls,
        ca=settings.ca_file,
        cert=settings.certificate_file,
        key=settings.key_file,
        token_file=settings.token_file,
    )


def _require_protection(server: ServerSettings, name: str, listen: str, *, tokens: bool) -> None:
    lacking = []
    if server.tls.certificate_file is None:
        lacking.append("server.tls.certificate_file and server.tls.key_file")
    if not tokens and server.tls.client_ca_file is None:
        lacking.append("one of server.tokens_file, server.service_accounts.audience, server.tls.client_ca_file")
    if lacking:
        raise InvalidSettingError(
            name,
            f"{listen} can be reached from other machines, and nothing keeps them out",
            f"set {', and '.join(lacking)}; or listen on 127.0.0.1; or set server.insecure: true to let everybody in",
        )


def _loopback(listen: str, setting: str) -> bool:
    host = parse_listen(listen, setting)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_files(server: ServerSettings) -> TlsFiles | None:
    tls = server.tls
    if tls.certificate_file is None or tls.key_file is None:
        return None
    return TlsFiles(tls.certificate_file, tls.key_file, tls.client_ca_file)


def _verifier(settings: Settings) -> TokenVerifier:
    from services.core.identity.base import FirstOf
    from services.core.identity.static import FileTokens

    server, verifiers = settings.server, list["TokenVerifier"]()
    if server.tokens_file is not None:
        verifiers.append(FileTokens(server.tokens_file))
    accounts = server.service_accounts
    if accounts.audience is not None:
        from services.core.catalog.cluster import Cluster
        from services.core.identity.cluster import KubernetesTokenReviewer, ServiceAccountTokens

        cluster = Cluster(kubeconfig=settings.kubernetes.kubeconfig, namespace=settings.kubernetes.namespace)
        reviewer = KubernetesTokenReviewer(cluster)
        verifiers.append(
            ServiceAccountTokens(reviewer, accounts.audience, readers=accounts.readers, admins=accounts.admins)
        )
    return FirstOf(verifiers)
