"""What a test needs of the machine, and what happens where it is not there.

A missing server is a skip that says why. Where CI=true it is a failure: there everything is expected, and a suite that
silently skips proves nothing.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import NamedTuple, NoReturn

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class InfluxDB(NamedTuple):
    """Where a real InfluxDB 2 answers, and the credentials of an operator there."""

    url: str
    org: str
    token: str
    bucket: str


def lacking(what: str, remedy: str) -> NoReturn:
    """Skip the test because the machine lacks something, or fail it under CI=true."""
    reason = f"needs {what}: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true forbids this skip)")
    pytest.skip(reason)


def require(condition: object, what: str, remedy: str) -> None:
    """Go on where the condition holds; else see `lacking`."""
    if not condition:
        lacking(what, remedy)


def require_rig() -> pathlib.Path:
    """Return the folder of the rig, whose `exchange` serves recorded market data over HTTP."""
    folder = pathlib.Path(os.environ.get("TICKWATCH_RIG", ROOT.parent / "shared" / "rig"))
    require((folder / "exchange").exists(), "the rig's exchange", "set TICKWATCH_RIG to the rig's folder")
    return folder


def require_recordings() -> pathlib.Path:
    """Return the folder of recorded exchange responses, which lies beside the rig."""
    folder = require_rig().parent / "data"
    require(folder.is_dir(), "recorded exchange responses", "they lie beside the rig, in data/")
    return folder


def require_influxdb() -> InfluxDB:
    """Return the InfluxDB that the ordinary INFLUXDB_V2_* variables name."""
    values = [os.environ.get(f"INFLUXDB_V2_{name}", "") for name in ("URL", "ORG", "TOKEN", "BUCKET")]
    require(all(values), "an InfluxDB 2", "set INFLUXDB_V2_URL, _ORG, _TOKEN and _BUCKET")
    return InfluxDB(*values)


def require_chromium() -> pathlib.Path:
    """Return Chromium, from the variable CHROMIUM or from PATH; Playwright's own download is never used."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    require(found, "Chromium", "install it (apt-get install chromium), or name it in CHROMIUM")
    return pathlib.Path(found or "")


def require_program(name: str) -> pathlib.Path:
    """Return a program from PATH or from the rig's folder of binaries."""
    rig_home = pathlib.Path(os.environ.get("RIG_HOME", pathlib.Path.home() / ".cache" / "rig"))
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{rig_home / 'bin'}")
    require(found, f"the program {name}", "put it on PATH")
    return pathlib.Path(found or "")


def require_cluster() -> None:
    """Go on where `kubectl` reaches the cluster that KUBECONFIG names."""
    require(os.environ.get("KUBECONFIG"), "a Kubernetes cluster", "set KUBECONFIG, as to that of kind")
    kubectl = require_program("kubectl")
    answer = subprocess.run([kubectl, "version", "--request-timeout=10s"], capture_output=True, text=True, check=False)
    require(answer.returncode == 0, "a Kubernetes cluster that answers", answer.stderr.strip())
