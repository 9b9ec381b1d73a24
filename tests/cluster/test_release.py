"""A release from its installation to its end, on a real cluster: every test finds it as the one before has left it.

The whole takes minutes, because runs come each minute; what can be told of one minute together is.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import aclosing
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import tickwatch
import yaml

from tests.support.chart import CHART
from tests.support.load import under_load
from tests.support.needs import ROOT
from tests.support.release import (
    NAME,
    SELECTOR,
    Commands,
    Release,
    documented,
    eventually,
    replace_pods,
    run_by_hand,
)

RULE = [{"name": "any-price", "selector": {"measures": ["price"]}, "threshold": {"above": 0}}]
"""A rule that every point of a price breaks, so that nobody waits for a market to move."""

MARKETS = "markets.tickwatch.dev"
COLLECTOR = f"{SELECTOR},app.kubernetes.io/component=collector"
QUERY = f"{SELECTOR},app.kubernetes.io/component=query"
ALERTER = f"{SELECTOR},app.kubernetes.io/component=alerter"


@pytest.fixture(scope="module")
def installed(release_of_the_readme: Release) -> str:
    """Return what the README's commands have printed."""
    return release_of_the_readme.installed()


@pytest.fixture(scope="module")
def release(release_of_the_readme: Release, installed: str) -> Iterator[Commands]:
    """Give the namespace with the release in it."""
    yield release_of_the_readme.commands
    release_of_the_readme.close()


def runs(commands: Commands) -> list[dict[str, object]]:
    """Return what the runs that are kept have printed, the oldest first."""
    printed = commands.kubectl("logs", "-l", COLLECTOR, "--tail=-1", "--ignore-errors")
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return sorted((line for line in lines if "slot" in line), key=lambda line: str(line["slot"]))


def metrics(commands: Commands) -> list[tickwatch.Metric]:
    """Ask for the metrics, through a port-forward, until there is an answer."""

    async def ask(address: str) -> list[tickwatch.Metric]:
        async with tickwatch.Client(address, timeout_seconds=30) as client:
            return [metric async for metric in client.list_metrics()]

    with commands.forwarded(f"{NAME}-query", 50051) as address:
        return asyncio.run(ask(address))


def point_counts(commands: Commands) -> dict[str, int]:
    """Return how many minutes of the last day each metric's price has."""
    return {metric.name: metric.measures[0].point_count for metric in metrics(commands)}


def written_in_time(commands: Commands, first: dt.datetime, last: dt.datetime) -> set[dt.datetime]:
    """Return the minutes from the first to the last whose point a run wrote when it was due, rather than filled in."""

    async def ask(address: str) -> tickwatch.History:
        async with tickwatch.Client(address, timeout_seconds=30) as client:
            return await client.get_history("SIM:BTCUSD", "price", start=first, end=last + dt.timedelta(minutes=1))

    with commands.forwarded(f"{NAME}-query", 50051) as address:
        history = asyncio.run(ask(address))
    minutes = {history.start + number * history.interval for number in range(len(history.values))}
    absent = (*history.missing, *history.backfilled)
    return {minute for minute in minutes if not any(part.start <= minute < part.end for part in absent)}


def test_the_readme_ends_with_prices(installed):
    """The README's commands, typed as they stand, pass the release's own test and end with a ranking of prices."""
    assert "PASSED" in installed
    ranking = installed.rpartition("PASSED")[2]
    assert "Stddev of price" in ranking
    for metric in ("SIM:BTCUSD", "SIM:ETHUSD", "SIM:XRPUSD"):
        assert metric in ranking


def test_the_image_lists_what_it_holds(release):
    """Its list names each Python package and each of Debian's that is installed, with its version, and no other."""

    def inside(*command: str) -> str:
        return release.kubectl("exec", f"deployment/{NAME}-query", "--", *command)

    listed = json.loads(inside("cat", "/usr/share/sbom/tickwatch.cdx.json"))
    assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == ("CycloneDX", "tickwatch")
    found: dict[str, set[tuple[str, str]]] = {}
    for part in listed["components"]:
        kind = part.get("purl", part["type"]).partition("/")[0]
        found.setdefault(kind, set()).add((part["name"], part["version"]))

    ask = "from importlib.metadata import distributions as d; print(*(f'{i.name} {i.version}' for i in d()), sep='\\n')"
    python = {tuple(line.split()) for line in inside("python", "-c", ask).splitlines()}
    debian = inside("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\n")
    assert found["pkg:pypi"] == {pair for pair in python if pair[0] != "tickwatch"}
    assert found["pkg:deb"] == {
        tuple(line.split()[1:]) for line in debian.splitlines() if line.startswith("installed ")
    }
    assert found["pkg:generic"] == {("python", inside("python", "--version").split()[1])}
    assert {name for name, _ in found["operating-system"]} == {"debian"}


def test_the_cron_job_ticks(release):
    """Two runs in a row, started by the cluster's own controller, each write the slot before their scheduled minute."""

    def two() -> list[dict[str, object]] | None:
        done = [run for run in runs(release) if run["exit_code"] == 0]
        return done if len(done) >= 2 else None

    found = eventually("two runs", two, within=180)

    slots = [dt.datetime.fromisoformat(str(run["slot"])) for run in found]
    assert {later - earlier for earlier, later in pairwise(slots)} == {dt.timedelta(minutes=1)}
    assert [run["points"] for run in found] == [15] * len(found)
    scheduled = {int(job["metadata"]["name"].rpartition("-")[2]) for job in release.get("jobs", "-l", COLLECTOR)}
    assert {int(slot.timestamp()) // 60 + 1 for slot in slots} <= scheduled


def test_identities_may_do_what_they_need_and_no_more(release):
    """Asked by impersonation, the API server grants each identity its rights, and no other."""
    lease = f"leases/{NAME}-alerter"
    for identity, verb, what, expected in (
        (f"{NAME}-alerter", "update", lease, "yes"),
        (f"{NAME}-alerter", "get", lease, "yes"),
        (f"{NAME}-alerter", "update", "leases/another", "no"),
        (f"{NAME}-alerter", "create", "leases", "no"),
        (f"{NAME}-alerter", "get", f"secrets/{NAME}-influxdb-auth", "no"),
        (f"{NAME}-alerter", "create", "pods", "no"),
        (f"{NAME}-collector", "get", f"secrets/{NAME}-influxdb-auth", "no"),
        (f"{NAME}-collector", "update", lease, "no"),
        (NAME, "list", "pods", "no"),
        (NAME, "list", "secrets", "no"),
        (NAME, "get", lease, "no"),
    ):
        subject = f"--as=system:serviceaccount:{release.namespace}:{identity}"
        answer = release.shell(f"kubectl auth can-i {verb} {what} {subject} || true").strip()
        assert answer.splitlines()[-1] == expected, f"{identity} {verb} {what}"


def test_one_alerter_holds_the_lease(release):
    """Of two alerters one holds the release's Lease, by its pod's name, and both are ready."""
    release.kubectl("rollout", "status", f"deployment/{NAME}-alerter", "--timeout=180s")
    names = [pod["metadata"]["name"] for pod in release.get("pods", "-l", ALERTER)]

    holder = release.get("lease", f"{NAME}-alerter")[0]["spec"]["holderIdentity"]

    assert len(names) == 2
    assert sum(holder.startswith(name) for name in names) == 1


class Upgrade(NamedTuple):
    """What was heard while a release was upgraded."""

    load: dict[str, Any]
    """The report of the pod that asked and watched query all the time."""
    breach: tickwatch.Event
    """The first breach at a subscriber outside the cluster, once the new alerters were up."""
    printed: str
    """What the documented commands have printed, the release's own test last."""


@pytest.fixture(scope="module")
def upgrade(release: Commands) -> Upgrade:
    """Upgrade by the documented commands, to a rule of our own in place of an image, while query is loaded."""

    def pods(role: str) -> set[str]:
        return {pod["metadata"]["name"] for pod in release.get("pods", "-l", role)}

    queries_before, alerters_before = pods(QUERY), pods(ALERTER)
    targets = (f"dns:///{NAME}-query-headless:50051", f"{NAME}-query:50051")
    # As if the cluster had the definitions of a version without columns.
    older = json.dumps([{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}])
    release.kubectl("patch", "crd", MARKETS, "--type=json", f"--patch={older}")
    script = documented("UPGRADING.md", "# upgrade")
    assert "--set image.tag=NEW" in script
    rules = shlex.quote(f"rules={json.dumps(RULE)}")
    script = script.replace("--set image.tag=NEW", f"--set-json {rules}")
    with under_load(release, *targets) as load, release.beginning(script) as upgrading:
        # A port is forwarded to one pod, and ends with it.
        eventually("the old alerters' end", lambda: not alerters_before & pods(ALERTER), within=400)
        release.kubectl("rollout", "status", f"deployment/{NAME}-alerter", "--timeout=300s")
        with release.forwarded(f"{NAME}-alerter", 50052) as address:
            breach = asyncio.run(first_breach(address))
        tested = upgrading.end()
        eventually("the old pods' end", lambda: not queries_before & pods(QUERY), within=120)
        # Whoever still hears of new slots has gone on at a new pod, since no other is left.
        heard = load.slots()
        eventually(
            "a new slot at each watch",
            lambda: all(load.slots().get(target, set()) > heard.get(target, set()) for target in targets),
            within=240,
        )
        return Upgrade(load.stop(), breach, tested)


async def first_breach(address: str) -> tickwatch.Event:
    """Return the first breach that an alerter tells of from now on."""
    async with (
        asyncio.timeout(180),
        tickwatch.AlertClient(address, timeout_seconds=60) as client,
        aclosing(client.watch_breaches(rules=["any-price"])) as items,
    ):
        async for item in items:
            if isinstance(item, tickwatch.Event):
                return item
    raise AssertionError("the stream ended")


def test_an_upgrade_under_load_fails_no_call(release, upgrade):
    """Query and alerter are replaced pod by pod: no call fails, watches go on where they were, no slot is left out."""
    report = upgrade.load
    assert report["failures"] == []
    assert report["calls"] > 100
    moments = sorted({dt.datetime.fromisoformat(slot) for slot in report["slots"]})
    # A node that is too busy for a run leaves its slot to the next one, which fills it in.
    assert written_in_time(release, moments[0], moments[-1]) - set(moments) == set(), "left out"


def test_the_commands_of_an_upgrade_bring_everything_up_to_date(release, upgrade):
    """Definitions of another version become the chart's own, values stay, and the release passes its test."""
    (market,) = release.get("crd", MARKETS)
    (own,) = yaml.safe_load_all((CHART / "crds" / "markets.yaml").read_text(encoding="utf-8"))
    assert market["spec"]["versions"] == own["spec"]["versions"]
    values = json.loads(release.run("helm", "get", "values", NAME, "--output=json"))
    assert values["influxdb"] == {"enabled": True}
    assert values["rules"] == RULE
    assert re.search(r"TEST SUITE: +tickwatch-test\n.*\n.*\nPhase: +Succeeded\n$", upgrade.printed)


def test_a_breach_comes_through_the_stream(upgrade):
    """A point that breaks a rule of the release's values arrives at a subscriber outside the cluster."""
    breach = upgrade.breach
    assert (breach.rule, breach.kind, breach.measure) == ("any-price", "breach", "price")
    assert breach.value is not None
    assert breach.value > 0


def test_a_killed_pod_costs_no_call(release):
    """A query pod that is killed without warning is replaced, and its calls are answered by the others."""
    release.kubectl("rollout", "status", f"deployment/{NAME}-query", "--timeout=180s")
    victim = release.get("pods", "-l", QUERY)[0]["metadata"]["name"]
    with under_load(release, f"dns:///{NAME}-query-headless:50051") as load:
        release.kubectl("delete", "pod", victim, "--grace-period=0", "--force")

        def replaced() -> bool:
            names = {pod["metadata"]["name"] for pod in release.get("pods", "-l", QUERY)}
            status = release.get("deployment", f"{NAME}-query")[0]["status"]
            return victim not in names and status.get("readyReplicas", 0) == 2

        eventually("the pod's replacement", replaced, within=120)
        report = load.stop()

    assert report["failures"] == []
    assert report["calls"] > 20


def test_influxdb_restarts_with_its_volume(release):
    """A killed InfluxDB comes back with its points, no other pod is restarted for it, and runs write again."""
    before = point_counts(release)
    names = [pod["metadata"]["name"] for role in (QUERY, ALERTER) for pod in release.get("pods", "-l", role)]

    release.kubectl("delete", "pod", f"{NAME}-influxdb-0", "--grace-period=1")
    release.kubectl("rollout", "status", f"statefulset/{NAME}-influxdb", "--timeout=180s")

    (run,) = run_by_hand(release)
    assert (run["exit_code"], run["points"]) == (0, 15)
    servers = release.get("pods", *names)
    assert [status["restartCount"] for pod in servers for status in pod["status"]["containerStatuses"]] == [0, 0, 0, 0]
    replace_pods(release, "query")  # who reads the store anew finds it all
    found = point_counts(release)
    assert found.keys() == before.keys()
    assert all(found[name] >= before[name] for name in before)


def test_a_run_is_divided_among_shards(release):
    """As an Indexed Job each shard takes its share of the metrics, and together they have all of them."""
    release.run("helm", "upgrade", NAME, "charts/tickwatch", "--reuse-values", "--set=collector.shards=3")

    reports = run_by_hand(release)

    assert sorted(str(report["shard"]) for report in reports) == ["0/3", "1/3", "2/3"]
    assert sum(report["points"] for report in reports) == 15


def test_points_come_back_from_a_backup(release, tmp_path):
    """What the documented commands have saved, the documented commands bring back after everything has been deleted."""
    release.kubectl("patch", "cronjob", f"{NAME}-collector", "--patch", '{"spec": {"suspend": true}}')
    cron_job = f"{NAME}-collector"
    eventually("the end of runs", lambda: not release.get("cronjob", cron_job)[0]["status"].get("active"), within=120)
    before = point_counts(release)
    release.shell(documented("docs/operations.md", "# backup"), folder=tmp_path)
    delete = """
token=$(kubectl get secret tickwatch-influxdb-auth -o jsonpath='{.data.token}' | base64 -d)
kubectl port-forward service/tickwatch-influxdb 18087:8086 >/dev/null & forward=$!
until curl -fsS http://127.0.0.1:18087/health >/dev/null 2>&1; do sleep 0.5; done
curl -fsS -H "Authorization: Token $token" 'http://127.0.0.1:18087/api/v2/delete?org=tickwatch&bucket=metrics' \
  -d '{"start": "2000-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z"}'
kill $forward
"""
    release.shell(delete)
    replace_pods(release, "query")
    emptied = point_counts(release)

    release.shell(documented("docs/operations.md", "# restore"), folder=tmp_path)
    replace_pods(release, "query")  # as the rollout that was begun there would, one after the other

    after = point_counts(release)
    release.kubectl("patch", "cronjob", f"{NAME}-collector", "--patch", '{"spec": {"suspend": false}}')
    assert emptied == {}
    assert after.keys() == before.keys()
    assert all(after[name] >= before[name] - 10 for name in before), "the day's window moved on a few minutes at most"


def test_a_rollback_brings_back_the_first_release(release):
    """`helm rollback` to the first revision takes the rules and the shards away again, and the release serves."""
    known = {pod["metadata"]["name"] for pod in release.get("pods", "-l", QUERY)}

    script = documented("UPGRADING.md", "# back")
    assert "rollback tickwatch REVISION" in script
    release.shell(script.replace("REVISION", "1"))

    pods = [pod["metadata"] for pod in release.get("pods", "-l", QUERY)]
    staying = {pod["name"] for pod in pods if "deletionTimestamp" not in pod}
    assert len(staying) == 2
    assert not known & staying

    config = release.get("configmap", NAME)[0]["data"]
    assert "rules.yaml" not in config
    assert release.get("cronjob", f"{NAME}-collector")[0]["spec"]["jobTemplate"]["spec"].get("completions") != 3
    assert metrics(release)


def test_nothing_is_left_but_what_is_said(release):
    """Uninstalled, a release leaves InfluxDB's claim and Secret; the documented command deletes these, too."""
    kinds = (
        "all,configmap,secret,serviceaccount,role,rolebinding,lease,poddisruptionbudget,networkpolicy,"
        "horizontalpodautoscaler,persistentvolumeclaim"
    )

    def left() -> set[str]:
        items = release.get(kinds, "-l", SELECTOR)
        return {f"{item['kind']}/{item['metadata']['name']}" for item in items}

    release.run("helm", "uninstall", NAME)
    # How long InfluxDB takes to end is its own affair.
    release.kubectl("delete", "pod", f"{NAME}-influxdb-0", "--grace-period=1", "--ignore-not-found", "--wait=false")
    kept = {f"PersistentVolumeClaim/data-{NAME}-influxdb-0", f"Secret/{NAME}-influxdb-auth"}
    eventually("the pods' end", lambda: left() == kept, within=120)

    command = f"kubectl delete pvc,secret -l {SELECTOR},app.kubernetes.io/component=influxdb"
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert command in page
    release.shell(command)
    everything = [
        f"{item['kind']}/{item['metadata']['name']}"
        for item in release.get(kinds)
        if item["metadata"]["name"] not in {"default", "kube-root-ca.crt"}
    ]
    assert everything == []
