"""The API server itself takes what the chart renders, pods included, in a namespace of restricted pods.

The namespace has policies besides, as platform teams write them: a ValidatingAdmissionPolicy asks more of pods than
`restricted` does.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chart import pods, rendered, scenario_names
from tests.support.release import Commands, eventually, own_namespace

FOREIGN = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
"""Kinds whose definitions a cluster may lack."""


POLICIES = {
    "images are named by a tag other than latest, or by their digest": (
        "c.image.contains('@sha256:') || c.image.matches(':[^/]+$') && !c.image.endsWith(':latest')"
    ),
    "memory is limited": "has(c.resources) && has(c.resources.limits) && 'memory' in c.resources.limits",
    "CPU is asked for": "has(c.resources) && has(c.resources.requests) && 'cpu' in c.resources.requests",
    "file systems are read-only": (
        "has(c.securityContext) && has(c.securityContext.readOnlyRootFilesystem)"
        " && c.securityContext.readOnlyRootFilesystem"
    ),
}
"""What has to hold of every container `c` of a pod, as an expression in CEL."""


@pytest.fixture(scope="module")
def namespace() -> Iterator[Commands]:
    """Give a namespace with policies, which is never filled."""
    with own_namespace() as commands, policies(commands):
        yield commands


@contextlib.contextmanager
def policies(commands: Commands) -> Iterator[None]:
    """Have the namespace's pods keep `POLICIES`, as long as the context lasts."""
    name, api = commands.namespace, "admissionregistration.k8s.io/v1"
    pods_made = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [pods_made]},
            "validations": [
                {"message": message, "expression": f"object.spec.containers.all(c, {expression})"}
                for message, expression in POLICIES.items()
            ],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
        },
    }
    commands.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
    try:
        eventually("the policies", lambda: "image" in refused(commands, image="tickwatch:latest"), within=120)
        yield
    finally:
        commands.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)


def refused(commands: Commands, **changed: Any) -> str:
    """Make a pod, as a dry run, whose container differs in this from one that is good; return the refusal, or ''."""
    container = {
        "name": "one",
        "image": "tickwatch:0.1.0",
        "resources": {"requests": {"cpu": "1m"}, "limits": {"memory": "1Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **changed,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"containers": [container]}}
    done = commands.shell(f"kubectl apply --dry-run=server -f - 2>&1 <<'END' || true\n{json.dumps(pod)}\nEND\n")
    return done if "denied" in done or "violates" in done else ""


@pytest.mark.parametrize("scenario", scenario_names())
def test_the_api_server_takes_a_scenario(namespace, scenario):
    """Server-side apply as a dry run: every object, and a bare pod of every template, for only pods are refused."""
    everything = rendered(scenario, f"--namespace={namespace.namespace}")
    objects = [item for item in everything if item["kind"] not in {*FOREIGN, "Pod"}]
    for number, (_, meta, spec) in enumerate(pods(everything)):
        pod = json.loads(json.dumps({"metadata": {"labels": meta["labels"]}, "spec": spec}))
        # A dry run makes no ServiceAccount that the pod could have.
        pod["spec"]["serviceAccountName"] = "default"
        pod["spec"].pop("priorityClassName", None)
        # Volumes that a StatefulSet's claims give.
        mounted = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", [])}
        given = {volume["name"] for volume in spec.get("volumes", [])}
        pod["spec"]["volumes"] = [
            *spec.get("volumes", []),
            *({"name": name, "emptyDir": {}} for name in mounted - given),
        ]
        pod["metadata"]["name"] = f"pod-{number}"
        objects.append({"apiVersion": "v1", "kind": "Pod", **pod})

    printed = namespace.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "-f",
        "-",
        document={"apiVersion": "v1", "kind": "List", "items": objects},
    )

    assert len(printed.splitlines()) == len(objects)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"image": "tickwatch:latest"}, "images are named by"),
        ({"image": "registry:5000/tickwatch"}, "images are named by"),
        ({"resources": {"requests": {"cpu": "1m"}}}, "memory is limited"),
        ({"resources": {"limits": {"memory": "1Mi"}}}, "CPU is asked for"),
        ({"securityContext": {}}, "violates PodSecurity"),
    ],
    ids=["latest", "no tag", "no limit", "no request", "not restricted"],
)
def test_a_pod_that_breaks_a_policy_is_refused(namespace, changed, words):
    """The namespace does refuse what it should, and only that, or the test above would prove nothing."""
    assert words in refused(namespace, **changed)
    assert refused(namespace) == ""
