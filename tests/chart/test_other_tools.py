"""The chart before tools that are not everywhere: Helm 3, and Prometheus' own reader of rules.

They run where they are on PATH, as `helm3` and `promtool`. A machine without them has nothing to install, CI included.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from tests.support.chart import CHART, of_kind, rendered, scenario_names, scenario_path, template_words


def program(name: str, what: str) -> str:
    """Return a program's path; skips the test where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {what} as {name} on PATH")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command; the outcome is the caller's to judge."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_helm_3_lints_the_chart():
    """`helm lint --strict` of Helm 3 finds nothing."""
    done = run(program("helm3", "Helm 3"), "lint", "--strict", str(CHART), "--set", "influxdb.enabled=true")

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("scenario", scenario_names())
def test_helm_3_renders_the_same(scenario):
    """Helm 3 makes of every values file the objects that Helm 4 makes."""
    helm = program("helm3", "Helm 3")
    done = run(helm, *template_words(), "--skip-crds", "--values", str(scenario_path(scenario)))

    assert done.returncode == 0, done.stderr
    objects = [loaded for loaded in yaml.load_all(done.stdout, yaml.CSafeLoader) if loaded]  # it is the safe one
    key = lambda item: (item["kind"], item["metadata"]["name"])  # noqa: E731 - the order of hooks is Helm's
    assert sorted(objects, key=key) == sorted(rendered(scenario), key=key)


def test_helm_3_refuses_what_helm_4_refuses():
    """A typo, a store that does not do and values that do not fit together fail with Helm 3, too."""
    helm = program("helm3", "Helm 3")
    for values, words in (
        ("influxdb.enabled=true,query.replica=3", "replica"),
        ("store.url=sqlite:data/tickwatch.db", "store"),
        ("influxdb.enabled=true,security.tokens.existingSecret=t", "needs security.tls.existingSecret"),
    ):
        done = run(helm, *template_words(), "--set", values)
        assert done.returncode != 0
        assert words in done.stderr


@pytest.mark.parametrize("scenario", ["observed", "loop"])
def test_prometheus_takes_the_alerts(tmp_path, scenario):
    """`promtool check rules` takes every rule of the PrometheusRule."""
    promtool = program("promtool", "Prometheus' promtool")
    (rule,) = of_kind(rendered(scenario, "--set", "metrics.prometheusRule.enabled=true"), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))

    done = run(promtool, "check", "rules", str(tmp_path / "rules.yaml"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rule['spec']['groups'][0]['rules'])} rules found" in done.stdout + done.stderr
