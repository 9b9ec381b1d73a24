"""A pod that loads the query service, as the services of a user would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.needs import ROOT
from tests.support.release import IMAGE, Commands, eventually

SCRIPT = ROOT / "tests" / "cluster" / "load.py"


def script_pod(name: str, script: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return a restricted pod of the product's image that runs a script of a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "script",
                    "image": IMAGE,
                    "command": ["python", f"/scripts/{script}"],
                    "env": [{"name": key, "value": value} for key, value in environment.items()],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}],
                }
            ],
            "volumes": [{"name": "scripts", "configMap": {"name": name}}],
        },
    }


class Load:
    """A load under way; `report` is there once it has ended."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.report: dict[str, Any] = {}

    def lines(self) -> list[str]:
        """Return what the pod has printed so far."""
        return self._commands.kubectl("logs", "load", "--ignore-errors").splitlines()

    def slots(self) -> dict[str, set[str]]:
        """Return the slots that watches have brought so far, by target."""
        found: dict[str, set[str]] = {}
        for line in self.lines():
            if line.startswith("slot "):
                _, slot, target = line.split()
                found.setdefault(target, set()).add(slot)
        return found

    def stop(self) -> dict[str, Any]:
        """End the load and return its report."""
        self._commands.kubectl("exec", "load", "--", "sh", "-c", "kill -TERM 1")
        eventually("the load's report", lambda: any(line.startswith("{") for line in self.lines()), within=60)
        self.report = json.loads(next(line for line in self.lines() if line.startswith("{")))
        return self.report


@contextmanager
def under_load(commands: Commands, *targets: str) -> Iterator[Load]:
    """Load these targets from a pod of the cluster."""
    commands.kubectl("create", "configmap", "load", f"--from-file={SCRIPT}")
    commands.kubectl("create", "-f", "-", document=script_pod("load", SCRIPT.name, {"TARGETS": ",".join(targets)}))
    load = Load(commands)
    try:
        commands.kubectl("wait", "--for=condition=Ready", "pod/load", "--timeout=60s")
        eventually("the load's begin", lambda: "loading" in load.lines(), within=60)
        yield load
        if not load.report:
            load.stop()
    finally:
        commands.kubectl("delete", "pod/load", "configmap/load", "--grace-period=0", "--force", "--ignore-not-found")
