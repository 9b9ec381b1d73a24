"""What the chart says of itself agrees with what it is: its README, its schema, its alerts and its dashboard."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml
from prometheus_client import CollectorRegistry

from services.core import telemetry
from services.core.rpc.metrics import rpc_metrics
from tests.support.chart import CHART, Object, helm_template, of_kind, rendered
from tests.support.needs import ROOT, require_program

FOREIGN = ("kube_", "container_", "up")
"""Metrics of kube-state-metrics, the kubelet and Prometheus itself."""


def metric_names() -> set[str]:
    """Return the names of all samples that the product exposes."""
    registry = CollectorRegistry()
    rpc_metrics(registry)
    for kind in (
        telemetry.QueryMetrics,
        telemetry.EvaluationMetrics,
        telemetry.AlertStreamMetrics,
        telemetry.NotifierMetrics,
        telemetry.GatewayMetrics,
    ):
        kind(registry)
    registry.register(telemetry.FreshnessCollector(list, list))
    names = set()
    for family in registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


def named_in(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression names, also those within a selector of `__name__`."""
    found = set(re.findall(r"\b((?:tickwatch|grpc|kube|container)_[a-z0-9_]+|up)\b", expression))
    return found - {"grpc_type", "grpc_service", "grpc_method", "grpc_code"}


def alerts() -> list[Object]:
    """Return the alerts of the PrometheusRule."""
    rule = of_kind(rendered("observed"), "PrometheusRule")[0]
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def test_the_readme_lists_the_values():
    """The table of values is what values.yaml says."""
    done = subprocess.run(
        [sys.executable, "charts/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def leaves(value: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the paths of everything that is not a mapping with something in it."""
    if isinstance(value, dict) and value:
        return set().union(*(leaves(below, (*path, key)) for key, below in value.items()))
    return {path}


def test_every_value_is_described():
    """Each value, or the mapping that it stands in, has its comment."""
    sys.path.insert(0, str(ROOT / "charts"))
    try:
        from generate import described  # noqa: PLC0415  # a script beside the chart, not a module of the product
    finally:
        sys.path.pop(0)
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    known = {path for path, _ in described(text)}

    bare = {
        path for path in leaves(yaml.safe_load(text)) if not any(path[:n] in known for n in range(1, len(path) + 1))
    }

    assert bare == set()


def test_the_schema_knows_exactly_the_values():
    """Every value is in the schema, and the schema has no value that values.yaml does not show."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    free = {"resources", "internet", "global"}

    def compare(declared: Object, shown: object, path: str) -> None:
        if "$ref" in declared:
            declared = schema["definitions"][declared["$ref"].rpartition("/")[2]]
        properties = declared.get("properties")
        if properties is None or not isinstance(shown, dict) or path.rpartition(".")[2] in free:
            return
        assert properties.keys() == shown.keys(), path
        for key, below in properties.items():
            compare(below, shown[key], f"{path}.{key}")

    compare(schema, values, "")


def test_the_chart_passes_helms_lint():
    """`helm lint --strict` finds nothing."""
    done = subprocess.run(
        [require_program("helm"), "lint", "--strict", CHART, "--set", "influxdb.enabled=true"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_every_alert_has_a_runbook():
    """Each alert has a section of its name in docs/operations.md, and its link points there."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    for alert in alerts():
        assert f"### {alert['alert']}\n" in page
        assert alert["annotations"]["runbook_url"].endswith(f"/operations#{alert['alert'].lower()}")
        assert alert["labels"]["severity"] in {"warning", "critical"}


def test_alerts_and_dashboard_use_metrics_that_exist():
    """What an alert or a panel asks for is exposed by the product, or by kube-state-metrics or the kubelet."""
    dashboard = json.loads(of_kind(rendered("observed"), "ConfigMap", "-dashboard")[0]["data"]["tickwatch.json"])
    expressions = [alert["expr"] for alert in alerts()]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    for expression in expressions:
        names = {name for name in named_in(expression) if not name.startswith(FOREIGN)}
        assert names <= metric_names(), expression
        assert named_in(expression), expression


@pytest.mark.parametrize(
    ("values", "services"),
    [
        ("gateway.enabled=true", {"query", "alerter", "gateway"}),
        ("alerter.enabled=false", {"query"}),
    ],
)
def test_a_service_that_is_gone_is_told_of(values, services):
    """Each service that a release has, and no other, has an alert that is raised where no pod of it is scraped."""
    rule = of_kind(rendered("trying-out", "--set", f"metrics.prometheusRule.enabled=true,{values}"), "PrometheusRule")[
        0
    ]

    down = [alert for alert in rule["spec"]["groups"][0]["rules"] if alert["alert"] == "TickwatchDown"]
    assert {alert["labels"]["service"] for alert in down} == services
    for alert in down:
        job = f"market-tickwatch-{alert['labels']['service']}-headless"
        assert alert["expr"] == f'absent(up{{job="{job}", namespace="watch"}} == 1)'


def test_alerts_about_runs_are_for_cron_jobs():
    """With a collector that stays up there are no Jobs to alert of."""
    rule = of_kind(rendered("loop", "--set", "metrics.prometheusRule.enabled=true"), "PrometheusRule")[0]

    names = {alert["alert"] for alert in rule["spec"]["groups"][0]["rules"]}
    assert "TickwatchDataStale" in names
    assert not any(name.startswith("TickwatchCollector") for name in names)


def test_the_page_of_security_shows_values_of_the_chart(tmp_path):
    """The values that docs/security.md shows switch on what it says they do."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(security:\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "values.yaml").write_text(block)

    done = helm_template("--values", str(tmp_path / "values.yaml"), "--set", "influxdb.enabled=true")

    assert done.returncode == 0, done.stderr
    assert "kind: ClusterRoleBinding" in done.stdout
    assert "certificate_file: /run/secrets/tickwatch/server/tls.crt" in done.stdout
