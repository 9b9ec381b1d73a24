"""Who reaches whom under the chart's policies, by working them out: in a namespace that denies everything else."""

from __future__ import annotations

import ipaddress

import pytest

from tests.support.chart import Object, of_kind, pods, rendered

NAMESPACE = {"kubernetes.io/metadata.name": "watch"}


def fits(selector: Object, labels: Object) -> bool:
    """Whether a label selector (of matchLabels alone, as the chart writes them) selects these labels."""
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: Object, other: Object) -> bool:
    """Whether the other end is a peer: a pod by labels and its namespace's labels, or an address."""
    if "ipBlock" in peer:
        if "ip" not in other:
            return False
        address = ipaddress.ip_address(other["ip"])
        blocks = [ipaddress.ip_network(block) for block in peer["ipBlock"].get("except", [])]
        return address in ipaddress.ip_network(peer["ipBlock"]["cidr"]) and not any(
            address in block for block in blocks
        )
    if "ip" in other:
        return False
    if "namespaceSelector" in peer:
        home = fits(peer["namespaceSelector"], other.get("namespace", NAMESPACE))
    else:
        home = other.get("namespace", NAMESPACE) == NAMESPACE
    return home and fits(peer.get("podSelector", {}), other["labels"])


def allowed(policies: list[Object], direction: str, end: Object, other: Object, port: int) -> bool:
    """Whether what selects `end` lets it talk with `other` on a TCP port; what nothing selects is denied here."""
    if "ip" in end or end.get("namespace", NAMESPACE) != NAMESPACE:
        return True
    key = "from" if direction == "ingress" else "to"
    for policy in policies:
        spec = policy["spec"]
        if not fits(spec["podSelector"], end["labels"]):
            continue
        for rule in spec[direction]:
            ports = rule.get("ports")
            on_port = ports is None or {"protocol": "TCP", "port": port} in ports
            if on_port and (key not in rule or any(is_peer(peer, other) for peer in rule[key])):
                return True
    return False


def reaches(policies: list[Object], source: Object, target: Object, port: int) -> bool:
    """Whether a connection from source to target on this port is let out and in."""
    return allowed(policies, "egress", source, target, port) and allowed(policies, "ingress", target, source, port)


def ends_of(objects: list[Object]) -> dict[str, Object]:
    """Name every pod of the release by its role, and the others that matter."""
    ends: dict[str, Object] = {
        meta["labels"]["app.kubernetes.io/component"]: {"labels": meta["labels"]} for _, meta, _ in pods(objects)
    }
    return ends | {
        "neighbour": {"labels": {"app": "other"}},
        "trading": {"labels": {}, "namespace": {"team": "trading"}},
        "prometheus": {"labels": {}, "namespace": {"kubernetes.io/metadata.name": "monitoring"}},
        "ingress": {"labels": {}, "namespace": {"kubernetes.io/metadata.name": "ingress"}},
        "dns": {"labels": {"k8s-app": "kube-dns"}, "namespace": {"kubernetes.io/metadata.name": "kube-system"}},
        "exchange": {"ip": "104.16.0.1"},
        "metadata service": {"ip": "169.254.169.254"},
        "api server": {"ip": "10.0.0.1"},
        "external store": {"ip": "10.20.0.9"},
    }


OWN_STORE = [
    ("collector", "influxdb", 8086, True),
    ("query", "influxdb", 8086, True),
    ("alerter", "influxdb", 8086, True),
    ("test", "influxdb", 8086, False),
    ("neighbour", "influxdb", 8086, False),
    ("test", "query", 50051, True),
    ("test", "alerter", 50052, True),
    ("prometheus", "query", 9464, True),
    ("prometheus", "alerter", 9464, True),
    ("trading", "query", 50051, False),
    ("collector", "exchange", 443, True),
    ("alerter", "exchange", 443, True),
    ("query", "exchange", 443, False),
    ("influxdb", "exchange", 443, False),
    ("collector", "metadata service", 80, False),
    ("collector", "query", 50051, False),
    ("query", "alerter", 50052, False),
    ("collector", "dns", 53, True),
    ("query", "dns", 53, True),
    ("test", "dns", 53, True),
    ("secret", "api server", 443, True),
    ("alerter", "api server", 443, True),
    ("query", "api server", 443, False),
    ("collector", "api server", 443, False),
    ("secret", "exchange", 8086, False),
]
NARROWED = [
    ("trading", "query", 50051, True),
    ("trading", "alerter", 50052, True),
    ("trading", "query", 9464, False),
    ("neighbour", "query", 50051, False),
    ("prometheus", "query", 9464, True),
    ("prometheus", "query", 50051, False),
    ("query", "external store", 443, True),
    ("collector", "external store", 443, True),
    ("query", "exchange", 443, False),
    ("collector", "exchange", 443, False),
    ("test", "query", 50051, True),
]


@pytest.mark.parametrize(
    ("scenario", "source", "target", "port", "expected"),
    [
        *(("locked-down", *row) for row in OWN_STORE),
        *(("locked-down-external", *row) for row in NARROWED),
        ("browsers", "ingress", "gateway", 8080, True),
        ("browsers", "neighbour", "gateway", 8080, False),
        ("browsers", "prometheus", "gateway", 9464, True),
        ("browsers", "gateway", "query", 50051, True),
        ("browsers", "gateway", "alerter", 50052, True),
        ("browsers", "gateway", "external store", 8086, False),
        ("browsers", "gateway", "exchange", 443, False),
        ("secured", "query", "api server", 443, True),
        ("secured", "gateway", "api server", 443, False),
        ("resources", "collector", "api server", 6443, True),
        ("resources", "alerter", "api server", 6443, True),
    ],
)
def test_who_reaches_whom(scenario, source, target, port, expected):
    """With everything else denied, what the release needs works, and nothing more."""
    objects = rendered(scenario)
    policies, ends = of_kind(objects, "NetworkPolicy"), ends_of(objects)

    assert reaches(policies, ends[source], ends[target], port) is expected


def test_a_pod_without_a_policy_there_is_not():
    """Each pod of a locked-down release is selected by a policy that rules both directions."""
    objects = rendered("locked-down")
    for name, meta, _ in pods(objects):
        ruling = [
            policy["spec"]["policyTypes"]
            for policy in of_kind(objects, "NetworkPolicy")
            if fits(policy["spec"]["podSelector"], meta["labels"])
        ]
        assert ruling == [["Ingress", "Egress"]], name
