"""The chart before Helm 3, which is not everywhere: these run where it is on PATH as `helm3`, CI included."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from tests.support.chart import CHART, rendered, scenario_names, scenario_path, template_words


def helm_3() -> str:
    """Return Helm 3's path; skips the test where there is none."""
    found = shutil.which("helm3")
    if found is None:
        pytest.skip("needs Helm 3 as helm3 on PATH")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command; the outcome is the caller's to judge."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_helm_3_lints_the_chart():
    """`helm lint --strict` of Helm 3 finds nothing."""
    done = run(helm_3(), "lint", "--strict", str(CHART), "--set", "influxdb.enabled=true")

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("scenario", scenario_names())
def test_helm_3_renders_the_same(scenario):
    """Helm 3 makes of every values file the objects that Helm 4 makes."""
    helm = helm_3()
    done = run(helm, *template_words(), "--skip-crds", "--values", str(scenario_path(scenario)))

    assert done.returncode == 0, done.stderr
    objects = [loaded for loaded in yaml.load_all(done.stdout, yaml.CSafeLoader) if loaded]  # it is the safe one
    key = lambda item: (item["kind"], item["metadata"]["name"])  # noqa: E731 - the order of hooks is Helm's
    assert sorted(objects, key=key) == sorted(rendered(scenario), key=key)


def test_helm_3_refuses_what_helm_4_refuses():
    """A typo, a store that does not do and values that do not fit together fail with Helm 3, too."""
    helm = helm_3()
    for values, words in (
        ("influxdb.enabled=true,query.replica=3", "replica"),
        ("store.url=sqlite:data/tickwatch.db", "store"),
        ("influxdb.enabled=true,security.tokens.existingSecret=t", "needs security.tls.existingSecret"),
    ):
        done = run(helm, *template_words(), "--set", values)
        assert done.returncode != 0
        assert words in done.stderr
