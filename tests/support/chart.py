"""The chart as its users render it: values in, objects out, by Helm itself."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.needs import ROOT, require_program

CHART = ROOT / "charts" / "tickwatch"
SCENARIOS = ROOT / "tests" / "chart" / "scenarios"
GOLDENS = ROOT / "tests" / "chart" / "goldens"

KUBERNETES = "1.37"
"""The version that renders are made and checked for."""
OLDEST_KUBERNETES = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].strip(">=").rpartition(".")[0]
"""The oldest version, as in `1.29`, that the chart says it is for."""

Object = dict[str, Any]


def scenario_names() -> list[str]:
    """Name the values files that have a golden each."""
    return sorted(path.stem for path in SCENARIOS.glob("*.yaml"))


def scenario_path(scenario: str) -> Path:
    """Return a scenario's values file."""
    return SCENARIOS / f"{scenario}.yaml"


def template_words(release: str = "market") -> list[str]:
    """Return what Helm is told in order to render the chart in namespace `watch`."""
    return ["template", release, str(CHART), "--namespace", "watch", "--kube-version", KUBERNETES]


def helm_template(*arguments: str, release: str = "market") -> subprocess.CompletedProcess[str]:
    """Render the chart; the outcome is the caller's to judge."""
    command = [str(require_program("helm")), *template_words(release), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def rendered_text(scenario: str, *arguments: str, release: str = "market") -> str:
    """Render a scenario, CRDs left out; a failure is Helm's own words."""
    values = ["--values", str(scenario_path(scenario))]
    done = helm_template(*values, "--skip-crds", *arguments, release=release)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def rendered(scenario: str, *arguments: str, release: str = "market") -> list[Object]:
    """Return a scenario's objects; rendered once, so that nobody may change them."""
    text = rendered_text(scenario, *arguments, release=release)
    return [loaded for loaded in yaml.load_all(text, yaml.CSafeLoader) if loaded]  # it is the safe one


def of_kind(objects: list[Object], kind: str, name: str = "") -> list[Object]:
    """Return the objects of a kind whose name ends so."""
    return [item for item in objects if item["kind"] == kind and item["metadata"]["name"].endswith(name)]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Yield what makes pods: its kind and name, the pod's metadata, the pod's spec."""
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        match item["kind"]:
            case "Pod":
                yield name, item["metadata"], item["spec"]
            case "Deployment" | "StatefulSet" | "Job":
                template = item["spec"]["template"]
                yield name, template["metadata"], template["spec"]
            case "CronJob":
                template = item["spec"]["jobTemplate"]["spec"]["template"]
                yield name, template["metadata"], template["spec"]


def golden_path(scenario: str) -> Path:
    """Return where a scenario's render is kept."""
    return GOLDENS / f"{scenario}.yaml"
