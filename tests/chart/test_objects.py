"""What holds for every render: safe pods, sound selectors, probes that fit the servers, runs that fit the minute."""

from __future__ import annotations

import json

import kubernetes_validate
import pytest
import yaml

from services.core.rpc.health import LIVENESS
from services.core.settings import load_settings
from services.securing import check_gateway
from tests.support.chart import KUBERNETES, OLDEST_KUBERNETES, Object, of_kind, pods, rendered, scenario_names

every_scenario = pytest.mark.parametrize("scenario", scenario_names())

FOREIGN_KINDS = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
"""Of the Prometheus operator and the Gateway API, whose schemas are not among Kubernetes' own."""

GRPC_SERVICES = {"query": "tickwatch.v1.QueryService", "alerter": "tickwatch.v1.AlertService"}


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, KUBERNETES])
@every_scenario
def test_objects_fit_the_schemas_of_kubernetes(scenario, version):
    """Every object is one that the API server knows, the oldest that the chart takes too, without unknown fields."""
    for item in rendered(scenario):
        if item["kind"] not in FOREIGN_KINDS:
            kubernetes_validate.validate(item, version, strict=True)


@every_scenario
def test_pods_are_restricted(scenario):
    """Every pod, the test's and the hook's too, is one that the Pod Security Standard `restricted` admits, and more."""
    for name, _, spec in pods(rendered(scenario)):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
        assert all(next(iter(volume.keys() - {"name"})) != "hostPath" for volume in spec.get("volumes", [])), name


@every_scenario
def test_service_links_are_off(scenario):
    """No pod gets variables such as TICKWATCH_QUERY_PORT of its Services, which read like settings and stop a role."""
    assert all(spec["enableServiceLinks"] is False for _, _, spec in pods(rendered(scenario)))


@every_scenario
def test_tokens_of_the_cluster_are_mounted_only_where_they_are_used(scenario):
    """Only what calls the API server has a token for it: the alerter, the hook, runs that read Markets, and who has
    callers' tokens verified.
    """
    mounted = {
        meta["labels"]["app.kubernetes.io/component"]
        for _, meta, spec in pods(rendered(scenario))
        if spec["automountServiceAccountToken"]
    }

    besides = {"resources": {"collector"}, "secured": {"query"}}.get(scenario, set())
    assert besides <= mounted <= {"alerter", "secret"} | besides


def test_rights_are_the_least():
    """The rights, to the verb: nobody may read Secrets, make a Lease, or write more of a resource than its status."""
    rights = {
        role["metadata"]["labels"]["app.kubernetes.io/component"]: [
            (rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]
        ]
        for scenario in ("trying-out", "resources")
        for role in of_kind(rendered(scenario), "Role")
    }

    assert of_kind(rendered("resources"), "ClusterRole") == []
    assert rights == {
        "secret": [(["secrets"], None, ["create"])],
        "alerter": [
            (["leases"], ["market-tickwatch-alerter"], ["get", "update"]),
            (["markets", "alertrules"], None, ["list", "watch"]),
            (["markets/status", "alertrules/status"], None, ["patch"]),
        ],
        "collector": [(["markets"], None, ["list"])],
    }


@every_scenario
def test_every_name_of_a_variable_is_there_once(scenario):
    """A list with a name twice is refused by server-side apply."""
    for name, _, spec in pods(rendered(scenario)):
        for container in spec["containers"]:
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), name


@every_scenario
def test_selectors_select_their_own_pods_alone(scenario):
    """A Deployment's, Service's, budget's or policy's selector fits the pods that it means and no others."""
    objects = rendered(scenario)
    labels = {name: meta["labels"] for name, meta, _ in pods(objects)}
    for item in objects:
        selector = item.get("spec", {}).get("selector")
        if item["kind"] in {"Deployment", "StatefulSet", "PodDisruptionBudget"}:
            selector = selector["matchLabels"]
        elif item["kind"] == "NetworkPolicy":
            selector = item["spec"]["podSelector"]["matchLabels"]
        elif item["kind"] != "Service":
            continue
        selected = {name for name, has in labels.items() if selector.items() <= has.items()}
        role = item["metadata"]["labels"]["app.kubernetes.io/component"]
        assert selected, item["metadata"]["name"]
        assert {labels[name]["app.kubernetes.io/component"] for name in selected} == {role}, item["metadata"]["name"]
        if item["kind"] == "Deployment":
            assert selected == {f"Deployment/{item['metadata']['name']}"}


@every_scenario
def test_names_leave_room_for_what_controllers_append(scenario):
    """A CronJob's name has at most 52 characters, every other at most 63."""
    for item in rendered(scenario):
        assert len(item["metadata"]["name"]) <= (52 if item["kind"] == "CronJob" else 63)


def test_long_release_names_are_cut():
    """The longest release name that Helm takes still gives names that Kubernetes takes."""
    objects = rendered("trying-out", "--set", "nameOverride=" + "n" * 60, release="r" * 53)

    assert max(len(item["metadata"]["name"]) for item in of_kind(objects, "CronJob")) <= 52
    assert max(len(item["metadata"]["name"]) for item in objects) <= 63


@every_scenario
def test_servers_are_probed_by_grpc(scenario):
    """Readiness asks for the service itself, liveness and startup for the process alone, on the port without TLS."""
    for name, meta, spec in pods(rendered(scenario)):
        role = meta["labels"]["app.kubernetes.io/component"]
        if role not in GRPC_SERVICES:
            continue
        container = spec["containers"][0]
        port = next(port["containerPort"] for port in container["ports"] if port["name"] == "health")
        assert container["readinessProbe"]["grpc"] == {"port": port, "service": GRPC_SERVICES[role]}, name
        assert container["livenessProbe"]["grpc"] == {"port": port, "service": LIVENESS}, name
        assert container["startupProbe"]["grpc"] == {"port": port, "service": LIVENESS}, name


def test_the_gateway_is_probed_by_http_and_has_no_token_for_the_store():
    """The gateway is a client like any other: it reaches the services by name and knows nothing of the store."""
    objects = rendered("browsers")
    spec = of_kind(objects, "Deployment", "-gateway")[0]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    settings = yaml.safe_load(of_kind(objects, "ConfigMap")[0]["data"]["tickwatch.yaml"])

    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert [volume["name"] for volume in spec["volumes"]] == ["config"]
    assert settings["gateway"]["query"] == "dns:///market-tickwatch-query-headless:50051"
    assert of_kind(objects, "HTTPRoute")[0]["spec"]["rules"] == [
        {"backendRefs": [{"name": "market-tickwatch-gateway", "port": 8080}]}
    ]
    assert of_kind(objects, "Ingress")[0]["spec"]["tls"] == [
        {"hosts": ["markets.example.com"], "secretName": "markets-tls"}
    ]


@every_scenario
def test_settings_are_ones_that_the_roles_take(scenario, tmp_path):
    """The configuration that the chart writes is read by the product's own reader, with what the chart promises."""
    config = of_kind(rendered(scenario), "ConfigMap")[0]["data"]
    path = tmp_path / "tickwatch.yaml"
    path.write_text(config["tickwatch.yaml"], encoding="utf-8")

    settings = load_settings(path, {})

    assert settings.store.startswith("influxdb+http")
    assert (settings.query.listen, settings.query.health_listen) == ("0.0.0.0:50051", "0.0.0.0:50061")
    assert (settings.alerter.listen, settings.alerter.health_listen) == ("0.0.0.0:50052", "0.0.0.0:50061")
    assert settings.server.max_calls > max(settings.query.max_streams, settings.alerter.max_streams)
    assert settings.server.insecure is (settings.server.tls.certificate_file is None)
    check_gateway(settings, settings.gateway.listen)
    assert settings.log.format == "json"


@every_scenario
def test_no_secret_stands_in_the_release(scenario):
    """Nothing that is rendered is a Secret: tokens come from Secrets that exist or are made in the cluster."""
    assert of_kind(rendered(scenario), "Secret") == []


@every_scenario
def test_a_release_fits_its_secret(scenario):
    """Helm keeps a release in a Secret of at most 1 MiB; a tenth of that leaves room for values and history."""
    assert len(json.dumps(rendered(scenario))) < 100_000 + 30_000


def test_runs_end_within_their_minute():
    """Late start and deadline fit the period; runs never overlap, and the schedule's zone is written down."""
    spec = of_kind(rendered("external"), "CronJob")[0]["spec"]

    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("* * * * *", "Etc/UTC", "Forbid")
    assert 10 < spec["startingDeadlineSeconds"] < 60
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 60
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert {"name": "TICKWATCH_COLLECTOR__JOB_NAME", "valueFrom": {"fieldRef": {"fieldPath": JOB_LABEL}}} in pod[
        "containers"
    ][0]["env"]


JOB_LABEL = "metadata.labels['batch.kubernetes.io/job-name']"


@pytest.mark.parametrize(("scenario", "action"), [("external", "FailJob"), ("sharded", "FailIndex")])
def test_exit_codes_decide_what_a_job_does(scenario, action):
    """1 ends a run, of shards its own; 2 ends all of it; an eviction counts for nothing; anything else is repeated."""
    job = of_kind(rendered(scenario), "CronJob")[0]["spec"]["jobTemplate"]["spec"]

    rules = job["podFailurePolicy"]["rules"]
    assert [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in rules] == [
        (action, [1]),
        ("FailJob", [2]),
        ("Ignore", None),
    ]
    assert rules[2]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_shards_are_the_indexes_of_a_job():
    """Each index takes its share, of as many as its own Job has; a shard that fails leaves the others alone."""
    objects = rendered("sharded")
    job = of_kind(objects, "CronJob")[0]["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]

    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 4, 4)
    assert (job["backoffLimitPerIndex"], job["maxFailedIndexes"]) == (1, 4)
    assert {"name": "TICKWATCH_COLLECTOR__SHARDS", "value": "4"} in container["env"]


def test_loops_are_one_deployment_a_shard():
    """A collector that stays up is a Deployment that never has two pods of one shard; suspended, it has none."""
    assert of_kind(rendered("loop"), "CronJob") == []
    assert of_kind(rendered("loop"), "Deployment", "-collector")[0]["spec"]["strategy"] == {"type": "Recreate"}
    shards = [of_kind(rendered("loop-sharded"), "Deployment", f"-collector-{shard}")[0] for shard in (0, 1)]
    arguments = [shard["spec"]["template"]["spec"]["containers"][0]["args"] for shard in shards]
    assert arguments == [["collect", "--loop", "--shard", "0/2"], ["collect", "--loop", "--shard", "1/2"]]
    assert [shard["spec"]["replicas"] for shard in shards] == [0, 0]


def test_an_autoscaler_owns_the_number_of_pods():
    """Beside a HorizontalPodAutoscaler the Deployment says nothing of replicas, or each upgrade would undo it."""
    objects = rendered("autoscaled")

    assert "replicas" not in of_kind(objects, "Deployment", "-query")[0]["spec"]
    scaler = of_kind(objects, "HorizontalPodAutoscaler")[0]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 12)
    assert of_kind(objects, "PodDisruptionBudget", "-query")[0]["spec"]["maxUnavailable"] == "25%"


@pytest.mark.parametrize(("drain", "expected"), [(0, 35), (10, 25), (60, 0)])
def test_a_pod_of_query_answers_until_clients_know_the_next_one(drain, expected):
    """A new pod is there for gRPC's 30 s between two look-ups, and 5 s more, before an old one stops answering."""
    words = (f"--set=query.drainSeconds={drain}", "--set=query.terminationGracePeriodSeconds=90")
    (deployment,) = of_kind(rendered("trying-out", *words), "Deployment", "query")

    assert deployment["spec"]["minReadySeconds"] == expected


def test_one_pod_has_no_disruption_budget():
    """A budget over a single pod would only keep nodes from being drained."""
    assert of_kind(rendered("smallest"), "PodDisruptionBudget") == []
    assert {item["metadata"]["name"] for item in of_kind(rendered("alerting"), "PodDisruptionBudget")} == {
        "market-tickwatch-query",
        "market-tickwatch-alerter",
    }


@every_scenario
def test_a_disruption_budget_keeps_no_node_from_being_drained(scenario):
    """While the store is away no pod is ready: by default a budget would then forbid every eviction, without an end."""
    for budget in of_kind(rendered(scenario), "PodDisruptionBudget"):
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_receivers_get_their_secrets_by_reference():
    """Addresses and secrets of webhooks and the dead man's switch stay in the Secrets that hold them."""
    alerter = of_kind(rendered("alerting"), "Deployment", "-alerter")[0]["spec"]["template"]["spec"]["containers"][0]

    env = {variable["name"]: variable.get("value") or variable["valueFrom"] for variable in alerter["env"]}
    prefix = "TICKWATCH_ALERTER__"
    assert env[f"{prefix}WEBHOOKS__ON_CALL__URL"] == {"secretKeyRef": {"name": "on-call", "key": "address"}}
    assert env[f"{prefix}WEBHOOKS__ON_CALL__SECRET"] == {"secretKeyRef": {"name": "on-call", "key": "key"}}
    assert env[f"{prefix}WEBHOOKS__ON_CALL__RULES"] == "volume-*,gone"
    assert env[f"{prefix}WEBHOOKS__CHAT__URL"] == {"secretKeyRef": {"name": "chat", "key": "url"}}
    assert env[f"{prefix}HEARTBEAT__URL"] == {"secretKeyRef": {"name": "dead-mans-switch", "key": "address"}}


def test_variables_of_the_user_replace_the_charts():
    """A name given again in extraEnv has the user's value, in every role."""
    for role in ("query", "alerter"):
        container = of_kind(rendered("placed"), "Deployment", role)[0]["spec"]["template"]["spec"]["containers"][0]
        assert {"name": "TICKWATCH_CONFIG", "value": "/elsewhere.yaml"} in container["env"]


def test_images_are_named_as_asked():
    """A digest wins over a tag, an image's own registry over the global one, and pull secrets reach every pod."""
    images = {
        (container["image"], json.dumps(spec["imagePullSecrets"]))
        for _, _, spec in pods(rendered("mirrored"))
        for container in spec["containers"]
    }

    secrets = '[{"name": "mirror"}]'
    assert images == {
        ("registry.example.com/mirror/tickwatch@sha256:" + "0123456789abcdef" * 4, secrets),
        ("other.example.com/influxdb@sha256:" + "fedcba9876543210" * 4, secrets),
    }


def mounts(spec: Object, volume: str) -> dict[str, object]:
    """Return what a projected volume of a pod brings: its files, each with the Secret or the audience it comes from."""
    found = next((item["projected"]["sources"] for item in spec["volumes"] if item["name"] == volume), [])
    files: dict[str, object] = {}
    for source in found:
        if token := source.get("serviceAccountToken"):
            files[token["path"]] = ("audience", token["audience"])
        else:
            files |= {
                item["path"]: (source["secret"]["name"], item["key"]) for item in source["secret"].get("items", [])
            }
    return files


def pod_of(scenario: str, role: str) -> Object:
    """Return the spec of a role's pod."""
    return next(
        spec for _, meta, spec in pods(rendered(scenario)) if meta["labels"]["app.kubernetes.io/component"] == role
    )


def test_who_needs_which_secret_has_it_and_no_other():
    """Servers have their key, clients an authority and what they show; a gateway that is not anonymous has no token."""
    servers = {
        "tls.crt": ("tickwatch-tls", "tls.crt"),
        "tls.key": ("tickwatch-tls", "tls.key"),
        "client-ca.crt": ("client-authorities", "ca.crt"),
        "tokens.yaml": ("tickwatch-tokens", "tokens.yaml"),
    }
    clients = {
        "ca.crt": ("tickwatch-tls", "ca.crt"),
        "tls.crt": ("own-client", "tls.crt"),
        "tls.key": ("own-client", "tls.key"),
    }
    for role in ("query", "alerter"):
        assert mounts(pod_of("secured", role), "server") == servers
        assert mounts(pod_of("secured", role), "client") == {}
    assert mounts(pod_of("secured", "gateway"), "client") == clients
    assert mounts(pod_of("secured", "test"), "client") == clients | {"token": ("audience", "tickwatch.example")}
    assert mounts(pod_of("certificates", "gateway"), "client") == clients
    assert mounts(pod_of("static-tokens", "gateway"), "client") == {"token": ("tickwatch-tokens", "own-token")}
    assert [volume["name"] for volume in pod_of("secured", "collector")["volumes"]] == ["config", "store-token"]


def test_what_is_mounted_is_what_the_settings_name(tmp_path):
    """Every file that the settings of a secured release name lies where the pod that reads it has mounted it."""
    for scenario in ("secured", "certificates", "static-tokens"):
        path = tmp_path / f"{scenario}.yaml"
        path.write_text(of_kind(rendered(scenario), "ConfigMap")[0]["data"]["tickwatch.yaml"], encoding="utf-8")
        settings = load_settings(path, {})
        tls, shown = settings.server.tls, settings.gateway.credentials
        for role, volume, named in (
            ("query", "server", [tls.certificate_file, tls.key_file, tls.client_ca_file, settings.server.tokens_file]),
            ("gateway", "client", [shown.ca_file, shown.certificate_file, shown.key_file, shown.token_file]),
        ):
            spec = pod_of(scenario, role)
            folder = next(
                mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == volume
            )
            assert {str(file) for file in named if file} == {f"{folder}/{file}" for file in mounts(spec, volume)}


def test_whoever_verifies_tokens_may_and_nobody_else():
    """Query and alerter are bound to system:auth-delegator, where service accounts are let in, and only there."""
    assert all(
        of_kind(rendered(scenario), "ClusterRoleBinding") == []
        for scenario in scenario_names()
        if scenario != "secured"
    )

    (binding,) = of_kind(rendered("secured"), "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == "system:auth-delegator"
    assert "namespace" not in binding["metadata"]
    assert [(subject["name"], subject["namespace"]) for subject in binding["subjects"]] == [
        ("market-tickwatch-query", "watch"),
        ("market-tickwatch-alerter", "watch"),
    ]
    for role in ("query", "alerter"):
        assert pod_of("secured", role)["serviceAccountName"] == f"market-tickwatch-{role}"
    settings = yaml.safe_load(of_kind(rendered("secured"), "ConfigMap")[0]["data"]["tickwatch.yaml"])
    assert settings["server"]["service_accounts"] == {
        "audience": "tickwatch.example",
        "readers": ["monitoring/*", "watch/market-tickwatch"],
        "admins": ["ops/on-call"],
    }
    assert pod_of("secured", "test")["serviceAccountName"] == "market-tickwatch"
