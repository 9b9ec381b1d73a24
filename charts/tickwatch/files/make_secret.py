"""Make the Secret with the token and the password of the chart's own InfluxDB, unless it is there already.

Runs in a hook, before anything needs them. It may create Secrets and read none, so that it asks for nothing first: the
API server's 409 says that one is there.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONFLICT = 409


def main() -> int:
    """Create the Secret; 0 where it is there in the end, whoever made it."""
    name = os.environ["SECRET_NAME"]
    namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": json.loads(os.environ["SECRET_LABELS"])},
        "type": "Opaque",
        "stringData": {"password": secrets.token_urlsafe(24), "token": secrets.token_urlsafe(48)},
    }
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    token = (ACCOUNT / "token").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(  # https, as written here
        f"https://{host}:{port}/api/v1/namespaces/{namespace}/secrets",
        data=json.dumps(secret).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, context=context, timeout=20):  # noqa: S310  # as above
            print(f"made the Secret {name}")
    except urllib.error.HTTPError as error:
        if error.code != CONFLICT:
            print(f"the API server refused the Secret {name}: {error.read().decode(errors='replace')}", file=sys.stderr)
            return 1
        print(f"the Secret {name} is there already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
