"""The API server itself takes what the chart renders, pods included, in a namespace of restricted pods."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.chart import pods, rendered, scenario_names
from tests.support.release import Commands, own_namespace

FOREIGN = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
"""Kinds whose definitions a cluster may lack."""


@pytest.fixture(scope="module")
def namespace() -> Iterator[Commands]:
    """Give a namespace that is never filled."""
    with own_namespace() as commands:
        yield commands


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


def test_a_pod_that_is_not_restricted_is_refused(namespace):
    """The namespace does refuse what is not restricted, or the test above would prove nothing."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "root", "image": "root"}]},
    }

    refusal = namespace.run("kubectl", "apply", "--dry-run=server", "-f", "-", document=pod, fails=True)

    assert "violates PodSecurity" in refusal
