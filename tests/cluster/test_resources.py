"""Markets and AlertRules on a real API server: refused where they are wrong, read, watched, and reported on."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import tickwatch

from tests.support import cluster, commands
from tests.support.chart import of_kind, rendered
from tests.support.cluster import alert_rule, kubectl, market
from tests.support.replicas import Breaches, Gate, Replica, shared_store, starting, wait_for_leader

LEASE = "market-tickwatch-alerter"
"""The Lease's name in the chart's renders, to which the alerter's rights are bound."""

HIGH = {"threshold": {"above": 100}, "selector": {"metrics": ["SIM:M*"]}}
SIM = {"exchange": "SIM", "pairs": ["BTCUSD", "ETHUSD"], "measures": ["price"]}


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """A namespace for these tests alone, with the chart's rights for alerter and collector, and a Lease.

    The processes of these tests have no other rights.
    """
    with cluster.a_namespace() as name:
        for role in ("alerter", "collector"):
            (chart_role,) = of_kind(rendered("resources"), "Role", f"-{role}")
            rules = chart_role["rules"]
            meta = {"name": role, "namespace": name}
            group = "rbac.authorization.k8s.io"
            apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
            apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules})
            apply(
                {
                    "apiVersion": f"{group}/v1",
                    "kind": "RoleBinding",
                    "metadata": meta,
                    "roleRef": {"apiGroup": group, "kind": "Role", "name": role},
                    "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": name}],
                }
            )
        lease = {"name": LEASE, "namespace": name}
        apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": lease})
        yield name


@pytest.fixture
def kubeconfig(namespace, tmp_path):
    """Return the kubeconfig of a role's identity."""

    def written(role: str) -> str:
        token = kubectl("-n", namespace, "create", "token", role).strip()
        return str(cluster.write_kubeconfig(tmp_path / f"kubeconfig-{role}", token=token))

    return written


@pytest.fixture
def empty(namespace):
    """No objects of ours before, and none after."""
    yield
    kubectl("-n", namespace, "delete", "markets,alertrules", "--all")


@pytest.fixture
def settings(tmp_path, namespace, kubeconfig, empty):
    """Settings of an alerter that reads everything from the cluster."""
    return {
        "TICKWATCH_STORE": f"sqlite:{tmp_path}/tickwatch.db",
        "TICKWATCH_CATALOG": "cluster",
        "TICKWATCH_ALERTER__RULES": "cluster",
        "TICKWATCH_ALERTER__LEASE": LEASE,
        "TICKWATCH_ALERTER__POLL_INTERVAL_SECONDS": "0.2",
        "TICKWATCH_KUBERNETES__NAMESPACE": namespace,
        "KUBECONFIG": kubeconfig("alerter"),
    }


@pytest.fixture
def store(settings):
    """The store of the processes."""
    with shared_store(settings) as opened:
        yield opened


@pytest.fixture
def start(tmp_path, settings):
    """Start a replica by name."""
    with starting(tmp_path, settings) as started:
        yield started


def apply(document: dict, *words: str) -> None:
    """Apply an object."""
    kubectl("apply", "-f", "-", *words, document=document)


def rules_of(replica: Replica) -> dict[str, str]:
    """Return the names and severities of the rules in force at a replica, none while it does not answer."""

    async def ask() -> dict[str, str]:
        async with tickwatch.AlertClient(replica.address) as client:
            try:
                found = await client.list_rules()
            except tickwatch.Error:
                return {}
            return {status.rule.name: status.rule.severity for status in found.rules}

    time.sleep(0.2)
    return asyncio.run(ask())


def status_of(namespace: str, kind: str, name: str) -> dict:
    """Return the status of an object, with its condition Accepted by itself."""
    time.sleep(0.2)
    status = cluster.get(namespace, kind, name).get("status", {})
    (accepted,) = [each for each in status.get("conditions", []) if each["type"] == "Accepted"] or [{}]
    return {**status, "accepted": accepted}


WRONG_RULES = [
    ({}, "a rule has one condition: ratio, threshold, missing or frozen"),
    ({"missing": {}, "frozen": {}}, "a rule has one condition"),
    ({"ratio": {}, "severity": "loud"}, 'supported values: "info", "warning", "critical"'),
    ({"ratio": {"factor": 0}}, "spec.ratio.factor in body should be greater than 0"),
    ({"ratio": {"factor": "3"}}, "spec.ratio.factor in body must be of type number"),
    ({"ratio": {"factor": 2, "resolve_factor": 2.5}}, "resolve_factor is at most the factor"),
    ({"ratio": {"resolve_factor": 3.5}}, "resolve_factor is at most the factor, which is 3 if left out"),
    ({"ratio": {"window": "1w"}}, "spec.ratio.window in body should match"),
    ({"ratio": {"window": "25h"}}, "spec.ratio.window in body should match"),
    ({"ratio": {"window": "1m"}}, "spec.ratio.window in body should match"),
    ({"ratio": {"window": "30m", "min_points": 31}}, "min_points is at most the minutes of the window"),
    ({"ratio": {"min_points": 61}}, "min_points is at most the minutes of the window, which has 60 if left out"),
    ({"ratio": {"window": "9m"}}, "a window of less than 10m needs min_points"),
    ({"threshold": {}}, "give above or below, or both"),
    ({"threshold": {"above": 1, "below": 1}}, "below is less than above"),
    ({"threshold": {"above": 1, "resolve_after": 0}}, "resolve_after in body should be greater than or equal to 1"),
    ({"missing": {"slots": 1441}}, "spec.missing.slots in body should be less than or equal to 1440"),
    ({"missing": {}, "for_points": 2}, "a missing rule counts slots itself: set missing.slots instead of for_points"),
    ({"frozen": {"points": 1}}, "spec.frozen.points in body should be greater than or equal to 2"),
    ({"frozen": {}, "severty": "info"}, 'unknown field "spec.severty"'),
    ({"frozen": {}, "selector": {"metrics": []}}, "spec.selector.metrics in body should have at least 1 items"),
    ({"frozen": {}, "labels": {"team": 5}}, "spec.labels.team in body must be of type string"),
]


@pytest.mark.parametrize(("spec", "words"), WRONG_RULES)
def test_a_wrong_alert_rule_is_refused(namespace, spec, words):
    """By the API server, in words that say what would be right, before anybody reads it."""
    document = alert_rule("wrong", spec)

    assert words in kubectl("-n", namespace, "create", "--dry-run=server", "-f", "-", document=document, fails=True)


@pytest.mark.parametrize("name", ["with.dot", "n" * 65])
def test_an_alert_rule_is_named_as_rules_are(namespace, name):
    """Its name is the rule's, and goes where dots and long names do not."""
    words = kubectl("-n", namespace, "create", "-f", "-", document=alert_rule(name, {"frozen": {}}), fails=True)

    assert "a rule's name has small letters, digits and -, at most 64" in words


WRONG_MARKETS = [
    ({"exchange": "SIM"}, "spec.pairs: Required value"),
    ({"exchange": "SIM", "pairs": []}, "spec.pairs in body should have at least 1 items"),
    ({"exchange": "SIM", "pairs": ["A", "A"]}, "Duplicate value"),
    ({"exchange": "SIM", "pairs": ["XBT/USD"]}, "spec.pairs[0] in body should match"),
    ({"exchange": "kraken", "pairs": ["A"]}, "spec.exchange in body should match"),
    ({"exchange": "SIM", "pairs": ["A"], "measures": ["cost"]}, 'Unsupported value: "cost"'),
    ({"exchange": "SIM", "pairs": ["A"], "measures": []}, "spec.measures in body should have at least 1 items"),
]


@pytest.mark.parametrize(("spec", "words"), WRONG_MARKETS)
def test_a_wrong_market_is_refused(namespace, spec, words):
    """By the API server, as a wrong rule is."""
    document = market("wrong", spec)

    assert words in kubectl("-n", namespace, "create", "--dry-run=server", "-f", "-", document=document, fails=True)


def test_a_market_stays_with_its_exchange(namespace, empty):
    """Pairs may come and go; of another exchange they are another market."""
    kubectl("-n", namespace, "create", "-f", "-", document=market("sim", SIM))

    kubectl("-n", namespace, "apply", "-f", "-", document=market("sim", {**SIM, "pairs": ["BTCUSD"]}))
    moved = market("sim", {**SIM, "exchange": "KRAKEN"})
    words = kubectl("-n", namespace, "apply", "-f", "-", document=moved, fails=True)
    assert "a market stays with its exchange: make another Market" in words


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (
            "alerter",
            {
                f"get leases/{LEASE}",
                f"update leases/{LEASE}",
                "list markets",
                "watch markets",
                "list alertrules",
                "watch alertrules",
                "patch markets/status",
                "patch alertrules/status",
            },
        ),
        ("collector", {"list markets"}),
    ],
)
def test_each_identity_may_what_it_needs_and_nothing_else(namespace, role, allowed):
    """Asked of the API server for each verb and each kind, ours and those worth stealing."""
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
    kinds = ("markets", "markets/status", "alertrules", "alertrules/status", f"leases/{LEASE}", "leases/other")
    asked = [f"{verb} {kind}" for verb in verbs for kind in (*kinds, "secrets", "configmaps", "pods")]
    identity = {"user": f"system:serviceaccount:{namespace}:{role}", "groups": ["system:serviceaccounts"]}

    def review(question: str) -> dict:
        verb, _, kind = question.partition(" ")
        resource, _, rest = kind.partition("/")
        groups = {"markets": "tickwatch.dev", "alertrules": "tickwatch.dev", "leases": "coordination.k8s.io"}
        attributes = {"namespace": namespace, "verb": verb, "resource": resource, "group": groups.get(resource, "")}
        attributes["name" if resource == "leases" else "subresource"] = rest
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {**identity, "resourceAttributes": attributes},
        }

    reviews = {"apiVersion": "v1", "kind": "List", "items": [review(question) for question in asked]}
    form = 'jsonpath={.status.allowed}{"\\n"}'
    answers = kubectl("create", "-f", "-", "-o", form, document=reviews).split()

    assert len(asked) == len(answers)
    assert allowed == {question for question, answer in zip(asked, answers, strict=True) if answer == "true"}


def test_rules_of_the_cluster_are_in_force_and_say_how_they_fare(start, store, namespace):
    """Accepted or why not, fired when and how often, at a glance; a change counts within seconds, without a restart."""
    apply(market("sim", SIM), "-n", namespace)
    apply(alert_rule("high", HIGH), "-n", namespace)
    apply(alert_rule("odd", {"frozen": {}, "message": "{metrik} stands still"}), "-n", namespace)
    apply(market("nowhere", {"exchange": "NOWHERE", "pairs": ["BTCUSD"]}), "-n", namespace)
    replica = start("alone")
    wait_for_leader(replica)

    # One bad object blocks nobody, and says what is wrong with it.
    commands.until(lambda: rules_of(replica), lambda found: found == {"high": "warning"})
    odd = commands.until(lambda: status_of(namespace, "alertrule", "odd"), lambda found: found["accepted"])["accepted"]
    assert ("False", "Invalid") == (odd["status"], odd["reason"])
    assert "spec.message: unknown placeholder {metrik} (did you mean {metric}?)" == odd["message"]
    nowhere = commands.until(lambda: status_of(namespace, "market", "nowhere"), lambda found: found["accepted"])
    assert "spec.exchange: unknown exchange 'NOWHERE'" in nowhere["accepted"]["message"]
    sim = commands.until(lambda: status_of(namespace, "market", "sim"), lambda found: found["accepted"])
    assert ("True", 2) == (sim["accepted"]["status"], sim["pairs"])

    refused = [f'tickwatch_refused_resources{{kind="{kind}"}}' for kind in ("Market", "AlertRule")]
    assert [1, 1] == [replica.metrics()[name] for name in refused]

    # It fires, and its status tells.
    breaches = Breaches(store)
    for _ in range(3):
        breaches.write()
    high = commands.until(
        lambda: status_of(namespace, "alertrule", "high"), lambda found: found.get("breaches24h") == 3
    )
    assert abs(time.time() - time.mktime(time.strptime(high["lastFired"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 300
    assert "threshold" == high["kind"]
    rows = [line.split() for line in kubectl("-n", namespace, "get", "alertrules").splitlines()]
    assert ["NAME", "KIND", "SEVERITY", "ACCEPTED", "LAST", "FIRED", "BREACHES", "24H", "AGE"] == rows[0]
    shown = {row[0]: row[1:] for row in rows[1:]}
    assert ["threshold", "warning", "True"] == shown["high"][:3]
    assert "3" == shown["high"][4]
    assert ["warning", "False", "0"] == shown["odd"][:3]
    rows = [line.split() for line in kubectl("-n", namespace, "get", "markets").splitlines()]
    assert ["sim", "SIM", "2", "True"] == next(row for row in rows if row[0] == "sim")[:4]

    # Changes count at once: repaired, changed, deleted.
    apply(alert_rule("odd", {"frozen": {}, "message": "{metric} stands still"}), "-n", namespace)
    apply(alert_rule("high", {**HIGH, "severity": "critical"}), "-n", namespace)
    commands.until(lambda: rules_of(replica), lambda found: found == {"high": "critical", "odd": "warning"})
    repaired = commands.until(
        lambda: status_of(namespace, "alertrule", "odd"), lambda found: found["accepted"]["status"] == "True"
    )
    assert repaired["accepted"]["observedGeneration"] == 2
    assert [1, 0] == [replica.metrics()[name] for name in refused]
    kubectl("-n", namespace, "delete", "alertrule", "high")
    commands.until(lambda: rules_of(replica), lambda found: found == {"odd": "warning"})


def test_what_was_last_heard_holds_while_the_api_server_is_away(start, namespace, tmp_path, settings):
    """Rules stay in force, and what has changed meanwhile counts as soon as the API server is back."""
    apply(alert_rule("high", HIGH), "-n", namespace)
    gate = Gate(tmp_path, settings["KUBECONFIG"])
    try:
        replica = start("alone", KUBECONFIG=str(gate.kubeconfig))
        wait_for_leader(replica)
        commands.until(lambda: rules_of(replica), lambda found: found == {"high": "warning"})

        gate.cut()
        commands.until(lambda: time.sleep(0.1) or replica.log, lambda log: "alertrules stay as they were" in log)
        apply(alert_rule("high", {**HIGH, "severity": "info"}), "-n", namespace)
        assert {"high": "warning"} == rules_of(replica)

        gate.reopen()
        commands.until(lambda: rules_of(replica), lambda found: found == {"high": "info"})
        assert "alertrules are heard of again" in replica.log
        wait_for_leader(replica)
        # The status too, though nothing that is told there has changed but the generation.
        commands.until(
            lambda: status_of(namespace, "alertrule", "high"),
            lambda found: found["accepted"]["observedGeneration"] == 2,
        )
    finally:
        gate.close()


def test_only_the_leader_writes_statuses(start, namespace):
    """The other reads the same rules and answers for them."""
    first = start("first")
    wait_for_leader(first)
    second = start("second")
    apply(alert_rule("high", HIGH), "-n", namespace)

    for replica in (first, second):
        commands.until(lambda replica=replica: rules_of(replica), lambda found: found == {"high": "warning"})
    commands.until(lambda: status_of(namespace, "alertrule", "high"), lambda found: found["accepted"])
    assert [True, False] == [first.leads(), second.leads()]
    managers = [
        each["manager"]
        for each in json.loads(
            kubectl("-n", namespace, "get", "alertrule", "high", "-o", "json", "--show-managed-fields")
        )["metadata"]["managedFields"]
        if each.get("subresource") == "status"
    ]
    assert 1 == len(managers)


def test_an_alerter_without_our_kinds_or_rights_says_what_it_lacks(namespace, settings, kubeconfig, tmp_path):
    """It ends before it serves, with the API server's words and exit code 2; where nobody answers, with 3."""
    given = settings | {"KUBECONFIG": kubeconfig("collector")}
    done = commands.tickwatch("alerter", "--listen", "127.0.0.1:0", settings=given)
    assert 2 == done.returncode
    assert (
        f'cannot list resource "alertrules" in API group "tickwatch.dev" in the namespace "{namespace}"' in done.stderr
    )

    away = str(cluster.write_kubeconfig(tmp_path / "away", server="https://127.0.0.1:1"))
    done = commands.tickwatch("alerter", "--listen", "127.0.0.1:0", settings=settings | {"KUBECONFIG": away})
    assert 3 == done.returncode
    assert "Error: listing markets in" in done.stderr


def test_a_run_collects_the_markets_of_the_cluster(namespace, settings, kubeconfig):
    """Those that are accepted, read once; with a right to list them, and no other."""
    apply(market("sim", SIM), "-n", namespace)
    apply(market("twice", {**SIM, "pairs": ["XRPUSD"]}), "-n", namespace)
    given = settings | {"KUBECONFIG": kubeconfig("collector")}
    done = commands.tickwatch("collect", settings=given)

    assert (0, 2) == (done.returncode, json.loads(done.stdout)["points"])
    assert "market twice is not accepted: Market sim declares SIM already: put the pairs there" in done.stderr


def test_a_run_without_an_accepted_market_is_wrongly_configured(namespace, settings, tmp_path):
    """Exit code 2, for repeating it changes nothing; and 3 where the API server is out of reach."""
    done = commands.tickwatch("collect", settings=settings)

    assert 2 == done.returncode
    assert f"no Market in namespace {namespace} is accepted" in done.stdout
    away = str(cluster.write_kubeconfig(tmp_path / "away", server="https://127.0.0.1:1"))
    done = commands.tickwatch("collect", settings=settings | {"KUBECONFIG": away})
    assert 3 == done.returncode
    assert "listing markets in" in done.stdout
