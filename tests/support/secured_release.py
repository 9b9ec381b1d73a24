"""A release that asks who calls: certificates on both sides, tokens that the API server verifies, and who has which."""

from __future__ import annotations

import json
from pathlib import Path

import tickwatch

from tests.support.certificates import Authority, Pair, new_token, tokens_text
from tests.support.release import NAME, Commands, Release, image_values

AUDIENCE = "tickwatch.example"

RULE = [{"name": "any-price", "selector": {"measures": ["price"]}, "threshold": {"above": 0}}]
"""A rule that every point of a price breaks, so that nobody waits for a market to move."""

_ROLES = ("query", "alerter", "gateway")


class SecuredRelease(Release):
    """The release with everything on, its own test begun as well, and what its callers have to show."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        servers, clients = Authority(folder / "servers"), Authority(folder / "clients")
        hosts = [f"{NAME}-{role}{kind}" for role in ("query", "alerter") for kind in ("", "-headless")]
        self.server, self.caller = servers.issue(*hosts, "localhost"), clients.issue("caller.example")
        self.ca, self.client_ca = servers.ca, clients.ca
        self.static_token = new_token()
        super().__init__(self._script)

    def token(self, account: str, audience: str = AUDIENCE) -> str:
        """Return an account's token, as a projected volume would bring it."""
        return self.commands.kubectl("create", "token", account, "--audience", audience).strip()

    def shown(self, token: str | None, *, certificate: bool = True) -> tickwatch.Credentials:
        """Return what a caller from outside the release shows."""
        cert, key = (self.caller.cert, self.caller.key) if certificate else (None, None)
        return tickwatch.Credentials(ca=self.ca, cert=cert, key=key, token=token)

    def _script(self, commands: Commands) -> str:
        commands.kubectl("create", "-f", "-", document=self._objects())
        values = self._folder / "values.json"
        values.write_text(json.dumps(_values(commands.namespace)))
        return "\n".join(
            (
                f"helm install {NAME} charts/tickwatch --skip-crds --values {values} {image_values()}",
                *(f"kubectl rollout status deployment/{NAME}-{role} --timeout=240s" for role in _ROLES),
                f"helm test {NAME} --logs --timeout 240s || echo FAILED",
            )
        )

    def _objects(self) -> dict[str, object]:
        """Return what a platform has in the namespace before it installs the release."""
        own = ("own", "read", new_token())
        tokens = tokens_text(("script", "read", self.static_token), own)
        items = [
            _secret("tls", "kubernetes.io/tls", _pair(self.server) | {"ca.crt": self.ca.read_text()}),
            _secret("own-client", "kubernetes.io/tls", _pair(self.caller)),
            _secret("client-authorities", "Opaque", {"ca.crt": self.client_ca.read_text()}),
            _secret("tokens", "Opaque", {"tokens.yaml": tokens, "own-token": own[2]}),
            *(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
                for account in ("reader", "on-call", "stranger")
            ),
        ]
        return {"apiVersion": "v1", "kind": "List", "items": items}


def _secret(name: str, kind: str, data: dict[str, str]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data}


def _pair(pair: Pair) -> dict[str, str]:
    return {"tls.crt": pair.cert.read_text(), "tls.key": pair.key.read_text()}


def _values(namespace: str) -> dict[str, object]:
    return {
        "influxdb": {"enabled": True, "persistence": {"enabled": False}},
        "collector": {"exchange": "simulated"},
        "query": {"replicas": 1, "drainSeconds": 0},
        "alerter": {"replicas": 1, "drainSeconds": 0},
        "gateway": {"enabled": True, "replicas": 1, "drainSeconds": 0},
        "rules": RULE,
        "security": {
            "tls": {"existingSecret": "tls"},
            "serviceAccounts": {
                "enabled": True,
                "audience": AUDIENCE,
                "readers": [f"{namespace}/reader"],
                "admins": [f"{namespace}/on-*"],
            },
            "tokens": {"existingSecret": "tokens"},
            "clientCertificates": {"caSecret": "client-authorities", "ownSecret": "own-client"},
        },
    }
