"""What raises an alert of the chart, by Prometheus' own unit tests of rules: this, and nothing beside it.

`promtool` is found on PATH; Debian has it in the package prometheus.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.chart import of_kind, rendered
from tests.support.needs import require_program

HOME = 'namespace="watch"'
QUERY = f'job="market-tickwatch-query-headless", pod="query-0", {HOME}'
ALERTER = f'job="market-tickwatch-alerter-headless", pod="alerter-0", {HOME}'
METHOD = f'grpc_service="tickwatch.v1.QueryService", grpc_method="RankMetrics", {QUERY}'
MINUTES = 25

WELL = {
    f"up{{{QUERY}}}": "1",
    f"up{{{ALERTER}}}": "1",
    f'tickwatch_exchange_newest_point_age_seconds{{exchange="KRAKEN", {QUERY}}}': "70",
    f'kube_job_status_failed{{job_name="market-tickwatch-collector-1", {HOME}}}': "0",
    f'kube_cronjob_status_last_successful_time{{cronjob="market-tickwatch-collector", {HOME}}}': "0+60",
    f"tickwatch_follower_lag_seconds{{{QUERY}}}": "2",
    f"tickwatch_breach_follower_lag_seconds{{{ALERTER}}}": "2",
    f"tickwatch_evaluation_behind_seconds{{{ALERTER}}}": "90",
    f'tickwatch_notification_lag_seconds{{receiver="chat", {ALERTER}}}': "0",
    f'tickwatch_notifications_dead_total{{receiver="chat", {ALERTER}}}': "0",
    f"tickwatch_rules_last_load_successful{{{ALERTER}}}": "1",
    f'grpc_server_handled_total{{grpc_code="OK", {METHOD}}}': "0+100",
    f'grpc_server_handled_total{{grpc_code="INTERNAL", {METHOD}}}': "0+5",
    f"tickwatch_watch_dropped_subscribers_total{{{QUERY}}}": "0",
    f"tickwatch_breach_streams_dropped_total{{{ALERTER}}}": "0",
}
"""What is scraped each minute of a release that is well: a value, or where it begins and by how much it grows."""


class Case(NamedTuple):
    """Something that is wrong, and the alert that it raises."""

    alert: str
    scraped: dict[str, str]
    labels: dict[str, str]
    summary: str


def wrong(part: str, value: str) -> dict[str, str]:
    """Return the one series of `WELL` whose name has this part, with another value."""
    (name,) = [name for name in WELL if part in name]
    return {name: value}


CRITICAL, WARNING = {"severity": "critical"}, {"severity": "warning"}
CASES = [
    Case(
        "TickwatchDown",
        wrong('up{job="market-tickwatch-query', "0"),
        {**CRITICAL, "service": "query"},
        "No pod of query answers Prometheus",
    ),
    Case(
        "TickwatchDown",
        wrong('up{job="market-tickwatch-alerter', "_"),
        {**CRITICAL, "service": "alerter"},
        "No pod of alerter answers Prometheus",
    ),
    Case(
        "TickwatchDataStale",
        wrong("newest_point_age", "301"),
        {**CRITICAL, "exchange": "KRAKEN"},
        "No new points of KRAKEN for 5m 1s",
    ),
    Case(
        "TickwatchCollectorFailing",
        wrong("kube_job_status_failed", "0+1"),
        WARNING,
        "Collector runs fail, 15 in 15 minutes",
    ),
    Case(
        "TickwatchCollectorNotRunning",
        wrong("last_successful_time", "0"),
        CRITICAL,
        "No collector run has succeeded for 25m 0s",
    ),
    Case(
        "TickwatchStoreUnreachable",
        wrong("tickwatch_follower_lag", "61"),
        {**CRITICAL, "pod": "query-0"},
        "query-0 has not read the store to its end for 1m 1s",
    ),
    Case(
        "TickwatchStoreUnreachable",
        wrong("tickwatch_breach_follower_lag", "61"),
        {**CRITICAL, "pod": "alerter-0"},
        "alerter-0 has not read the store to its end for 1m 1s",
    ),
    Case(
        "TickwatchEvaluationBehind",
        wrong("evaluation_behind", "241"),
        CRITICAL,
        "Rules were last evaluated for a minute 4m 1s ago",
    ),
    Case(
        "TickwatchNotificationsFailing",
        wrong("notification_lag", "301"),
        {**CRITICAL, "receiver": "chat"},
        "Receiver chat does not take its events",
    ),
    Case(
        "TickwatchNotificationsFailing",
        wrong("notifications_dead", "0+1"),
        {**CRITICAL, "receiver": "chat"},
        "Receiver chat does not take its events",
    ),
    Case(
        "TickwatchRulesRefused",
        wrong("rules_last_load", "0"),
        WARNING,
        "The rules that were last written are wrong; those before hold",
    ),
    Case(
        "TickwatchErrors",
        wrong('grpc_code="INTERNAL"', "0+100"),
        {**WARNING, "grpc_service": "tickwatch.v1.QueryService", "grpc_method": "RankMetrics"},
        "50% of the calls of tickwatch.v1.QueryService/RankMetrics fail",
    ),
    Case(
        "TickwatchStreamsDropped",
        wrong("watch_dropped_subscribers", "0+1"),
        WARNING,
        "Streams end because their readers are too slow, 15 in 15 minutes",
    ),
]


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    """Return the alerts of a release whose collector is a CronJob."""
    (rule,) = of_kind(rendered("trying-out", "--set", "metrics.prometheusRule.enabled=true"), "PrometheusRule")
    return list(rule["spec"]["groups"][0]["rules"])


def promtool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder; the outcome is the caller's to judge."""
    command = [require_program("promtool"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def tried(folder: Path, rules: list[dict[str, Any]], scraped: dict[str, str], raised: list[Case]) -> str:
    """Have promtool scrape these for `MINUTES`; return its complaints unless these alerts are raised, and no other."""
    series = [{"series": name, "values": f"{value}x{MINUTES}"} for name, value in (WELL | scraped).items()]
    expected = [
        {
            "eval_time": f"{MINUTES}m",
            "alertname": name,
            "exp_alerts": [
                {"exp_labels": case.labels, "exp_annotations": {"summary": case.summary}}
                for case in raised
                if case.alert == name
            ],
        }
        for name in {rule["alert"] for rule in rules}
    ]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "tickwatch", "rules": rules}]}))
    test = {"interval": "1m", "input_series": series, "alert_rule_test": expected}
    (folder / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]})
    )
    done = promtool(folder, "test", "rules", "tests.yaml")
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_a_release_that_is_well_raises_nothing(tmp_path, rules):
    """Five percent of a method's calls may fail, a point may be a minute old; of that nobody is told."""
    assert not tried(tmp_path, rules, {}, [])


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.alert} by {next(iter(case.scraped)).partition('{')[0]}"
)
def test_what_is_wrong_raises_its_alert_alone(tmp_path, rules, case):
    """The alert has the labels by which it is routed, and says in words of whom and for how long."""
    assert not tried(tmp_path, rules, case.scraped, [case])


def test_every_alert_is_tried(rules):
    """No alert is left out above."""
    assert {case.alert for case in CASES} == {rule["alert"] for rule in rules}


@pytest.mark.parametrize("scenario", ["observed", "loop"])
def test_prometheus_takes_the_alerts(tmp_path, scenario):
    """`promtool check rules` takes every rule of the PrometheusRule."""
    (rule,) = of_kind(rendered(scenario, "--set", "metrics.prometheusRule.enabled=true"), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))

    done = promtool(tmp_path, "check", "rules", "rules.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rule['spec']['groups'][0]['rules'])} rules found" in done.stdout + done.stderr


def test_a_wrong_expectation_fails(tmp_path, rules):
    """The tests above could fail: an alert that is expected and not raised is complained of."""
    assert "TickwatchDataStale" in tried(tmp_path, rules, {}, CASES[2:3])
