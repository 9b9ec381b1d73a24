"""A real cluster, as `kubectl` reaches it, and what tests put into it."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.needs import ROOT, require_cluster, require_program

CRDS = ROOT / "charts" / "tickwatch" / "crds"
_TIMEOUT_SECONDS = 120


def kubectl(*words: str, document: object = None, fails: bool = False) -> str:
    """Run kubectl and return what it printed; `document` goes in as JSON.

    With `fails` it has to fail, and what it complained of is returned.
    """
    done = subprocess.run(
        [require_program("kubectl"), *words],
        input=None if document is None else json.dumps(document),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stderr if fails else done.stdout


def get(namespace: str, *words: str) -> Any:
    """Return objects as `kubectl get -o json` prints them."""
    return json.loads(kubectl("-n", namespace, "get", *words, "-o", "json"))


@contextlib.contextmanager
def a_namespace() -> Iterator[str]:
    """Make a namespace of its own for as long as the context lasts, in a cluster that knows our kinds."""
    require_cluster()
    kubectl("apply", "-f", str(CRDS))
    kubectl("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=60s")
    name = f"tickwatch-test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def alert_rule(name: str, spec: object) -> dict[str, Any]:
    """Return an AlertRule as a document."""
    return {"apiVersion": "tickwatch.dev/v1alpha1", "kind": "AlertRule", "metadata": {"name": name}, "spec": spec}


def market(name: str, spec: object) -> dict[str, Any]:
    """Return a Market as a document."""
    return {"apiVersion": "tickwatch.dev/v1alpha1", "kind": "Market", "metadata": {"name": name}, "spec": spec}


def write_kubeconfig(path: Path, *, token: str | None = None, server: str | None = None) -> Path:
    """Write what KUBECONFIG says, with another token or another server, and return the path."""
    document = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    if token is not None:
        document["users"][0]["user"] = {"token": token}
    if server is not None:
        chosen = document["clusters"][0]["cluster"]
        name = urlsplit(chosen["server"]).hostname
        if name != urlsplit(server).hostname:
            chosen["tls-server-name"] = name
        chosen["server"] = server
    path.write_text(json.dumps(document))
    return path
