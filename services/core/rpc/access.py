"""Which call needs which role, and whether a caller has it.

Decided before a request is looked at: whoever may not call learns nothing of what exists. Where neither tokens nor
clients' certificates are asked for, nothing of this runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

from services.core.errors import PermissionDeniedError, UnauthenticatedError
from services.core.identity.base import Caller, Role, TokenVerifier, bearer_token
from services.core.rpc.interceptors import Check, Context
from services.core.rpc.tls import TlsFiles

_QUERY = "/tickwatch.v1.QueryService"
_ALERT = "/tickwatch.v1.AlertService"

ROLES: dict[str, Role] = {
    f"{_QUERY}/ListMetrics": Role.READ,
    f"{_QUERY}/GetHistory": Role.READ,
    f"{_QUERY}/RankMetrics": Role.READ,
    f"{_QUERY}/WatchPoints": Role.READ,
    f"{_ALERT}/WatchBreaches": Role.READ,
    f"{_ALERT}/ListBreaches": Role.READ,
    f"{_ALERT}/ListRules": Role.READ,
    f"{_ALERT}/TestRule": Role.READ,
    f"{_ALERT}/ExplainSeries": Role.READ,
    f"{_ALERT}/CreateSilence": Role.ADMIN,
    f"{_ALERT}/ExpireSilence": Role.ADMIN,
    f"{_ALERT}/ListDeadLetters": Role.READ,
    f"{_ALERT}/ResendDeadLetters": Role.ADMIN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Role.READ,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.READ,
}
"""Every method but those of health, which probes and balancers ask without credentials."""


class Access:
    """Admits callers by their token or, where no tokens are asked for, by their certificate.

    `admins` are globs of names in certificates that may do everything; every other certificate may read.
    """

    def __init__(self, tokens: TokenVerifier | None = None, *, admins: Sequence[str] = ()) -> None:
        self._tokens = tokens
        self._admins = tuple(admins)

    def check(self, path: str) -> Check:
        """Return what admits callers to a method; raises KeyError for one whose role nobody has decided."""
        role = ROLES[path]

        def check(context: Context) -> str:
            caller = self._caller(context)
            if caller.role is None or caller.role < role:
                raise PermissionDeniedError(caller.name, path, role.name.lower())
            return caller.name

        return check

    def _caller(self, context: Context) -> Caller:
        if self._tokens is None:
            return self._owner(context)
        headers = context.invocation_metadata() or ()
        caller = self._tokens.verify(
            bearer_token(next((value for key, value in headers if key == "authorization"), None))
        )
        if caller is None:
            raise UnauthenticatedError("the token is unknown, has expired or is not for this service", "another token")
        return caller

    def _owner(self, context: Context) -> Caller:
        """Return who shows the connection's certificate, which TLS has proven."""
        proven = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
        names = [
            value.decode(errors="replace")
            for key in ("x509_common_name", "x509_subject_alternative_name")
            for value in proven.get(key, ())
        ]
        if not names:
            raise UnauthenticatedError("the certificate names nobody", "one with a common or an alternative name")
        admin = any(fnmatchcase(name, glob) for name in names for glob in self._admins)
        return Caller(names[0], Role.ADMIN if admin else Role.READ)


@dataclass(frozen=True, slots=True)
class Protection:
    """What keeps a server from the wrong callers, and from too much of the right ones. By default nothing does."""

    tls: TlsFiles | None = None
    """None: plain text."""
    access: Access | None = None
    """None: everybody may call everything."""
    health_listen: str | None = None
    """HOST:PORT where the health service alone answers, in plain text, for probes that know no TLS. None: nowhere."""
    max_calls: int | None = None
    """How many calls may be open or waiting at once, streams and watchers of health among them. None: any number."""
    max_streams_per_client: int | None = None
    """How many streams of a kind one caller, or without names one address, may have at once. None: any number."""


OPEN = Protection()
