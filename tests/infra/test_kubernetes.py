"""The templates for Kubernetes, by parsing: nothing here reaches a cluster."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray._raylet import Config

from advseg.platform.cluster.submit import MODULES, RAY_TRAIN
from advseg.platform.spec.spec_file import SpecError, load_spec

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "infra").glob("*.yaml"))
DOCUMENTS = [(path.name, document) for path in FILES for document in yaml.safe_load_all(path.read_text())]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
ACTIONS = {
    "delete_object": {"s3:DeleteObject"},
    "download_file": {"s3:GetObject"},
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "list_objects_v2": {"s3:ListBucket"},
    "put_object": {"s3:PutObject"},
    "upload_fileobj": {"s3:PutObject", "s3:AbortMultipartUpload"},
}
"""What S3 must allow for what the store calls."""
KUBERNETES = "1.34"
"""The version whose schemas hold what is Kubernetes' own."""


def named(file: str, kind: str) -> dict[str, Any]:
    [found] = [document for name, document in DOCUMENTS if (name, document["kind"]) == (file, kind)]
    return found


JOB = named("rayjob.yaml", "RayJob")
CLUSTERS = {"cluster": named("raycluster.yaml", "RayCluster")["spec"], "job": JOB["spec"]["rayClusterSpec"]}
GROUPS = {
    f"{name}-{group.get('groupName', 'head')}": group
    for name, cluster in CLUSTERS.items()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
}
PODS = {
    **{name: group["template"] for name, group in GROUPS.items()},
    "redis": named("redis.yaml", "StatefulSet")["spec"]["template"],
}
SETTINGS = named("settings.yaml", "ConfigMap")["data"]


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


TEXT, NUMBER, SWITCH, TEXTS = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": "object"}
TEMPLATE = {"type": "object", "required": ["spec"]}
# What the templates use of the resources of KubeRay 1.7, as its documentation has them.
CLUSTER = of(
    rayVersion=TEXT,
    enableInTreeAutoscaling=SWITCH,
    autoscalerOptions=of(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=NUMBER, securityContext={"type": "object"}),
    authOptions=of(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    gcsFaultToleranceOptions=of(redisAddress=TEXT),
    headGroupSpec=of(rayStartParams={"type": "object", "additionalProperties": TEXT}, template=TEMPLATE),
    workerGroupSpecs={
        "type": "array",
        "items": of(
            groupName=TEXT,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            rayStartParams={"type": "object", "additionalProperties": TEXT},
            template=TEMPLATE,
        ),
    },
)
RAY_JOB = of(
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    backoffLimit=NUMBER,
    shutdownAfterJobFinishes=SWITCH,
    ttlSecondsAfterFinished=NUMBER,
    rayClusterSpec=CLUSTER,
)


@pytest.mark.parametrize(
    ("name", "document"), DOCUMENTS, ids=lambda part: part if isinstance(part, str) else part["kind"]
)
def test_every_resource_has_the_form_that_kubernetes_and_kuberay_ask_for(name, document):
    match document["kind"]:
        case "RayCluster":
            jsonschema.validate(document["spec"], CLUSTER)
        case "RayJob":
            jsonschema.validate(document["spec"], RAY_JOB)
        case "ResourceFlavor" | "ClusterQueue" | "LocalQueue":
            assert document["apiVersion"] == "kueue.x-k8s.io/v1beta2"
        case "PodMonitor":
            assert document["apiVersion"] == "monitoring.coreos.com/v1"
        case _:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("template", PODS.values(), ids=PODS)
def test_every_pod_has_the_form_that_kubernetes_asks_for(template):
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, KUBERNETES, strict=True)


@pytest.mark.parametrize("template", PODS.values(), ids=PODS)
def test_every_pod_runs_as_no_root_with_limits_and_pinned_images(template):
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
    for container in pod["containers"]:
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert re.fullmatch(rf"redis:7\.\d+\.\d+-\w+|[\w./]+/advseg:{re.escape(VERSION)}-cuda", container["image"])


@pytest.mark.parametrize("template", [group["template"] for group in GROUPS.values()], ids=GROUPS)
def test_a_pod_mounts_its_volumes_and_reads_what_settings_and_secrets_say(template):
    pod = template["spec"]
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["envFrom"] == [{"configMapRef": {"name": "advseg"}}, {"secretRef": {"name": "advseg"}}]
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    assert f"USER {pod['securityContext']['runAsUser']}\n" in dockerfile


def test_a_node_that_goes_without_a_word_is_given_up_in_half_a_minute():
    names = ("health_check_period_ms", "health_check_timeout_ms")
    assert all(hasattr(Config, name) for name in names)  # Ray passes over names that it does not know.
    assert 5 * sum(int(SETTINGS[f"RAY_{name}"]) for name in names) <= 30_000


@pytest.mark.parametrize("template", [group["template"] for group in GROUPS.values()], ids=GROUPS)
def test_a_pod_that_is_told_to_go_drains_before_it_is_killed(template):
    drain_s = int(SETTINGS["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert template["spec"]["terminationGracePeriodSeconds"] >= drain_s + 30
    [container] = template["spec"]["containers"]
    assert "command" not in container, "the image's own begins with tini"
    *shell, _ = container["args"]
    assert shell == ["bash", "-c"]
    # The process that was begun is Ray, to whom the signal comes; what KubeRay quotes is one word.
    told = """sh -c 'echo $$ "$1"' ray "{\\"slot\\": 1}" """
    with subprocess.Popen(
        container["args"], env={**os.environ, "KUBERAY_GEN_RAY_START_CMD": told}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.read() == f'{process.pid} {{"slot": 1}}\n'


def test_the_command_of_containers_is_ours():
    for kind in (named("raycluster.yaml", "RayCluster"), JOB):
        assert kind["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_a_cluster_grows_with_its_work_asks_for_a_token_and_runs_the_ray_of_the_image(cluster):
    assert cluster["rayVersion"] == version("ray")
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "advseg-ray"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == 0 < group["maxReplicas"]


def test_there_are_gpu_and_spot_groups():
    groups = {group["groupName"]: group["template"]["spec"] for group in CLUSTERS["cluster"]["workerGroupSpecs"]}
    assert all("nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"] for pod in groups.values())
    assert {name for name, pod in groups.items() if "nodeSelector" in pod} == {"gpu-spot"}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector["matchLabels"].items() <= labels.items()


def test_only_pods_of_advseg_and_their_operators_reach_the_nodes_and_only_heads_redis():
    policy, redis = named("settings.yaml", "NetworkPolicy")["spec"], named("redis.yaml", "NetworkPolicy")["spec"]
    for name, template in PODS.items():
        chosen = redis if name == "redis" else policy
        assert selects(chosen["podSelector"], template["metadata"]["labels"])
    assert policy["ingress"][0] == {"from": [{"podSelector": policy["podSelector"]}]}
    assert all("namespaceSelector" in peer for rule in policy["ingress"][1:] for peer in rule["from"])
    [[peer]] = [rule["from"] for rule in redis["ingress"]]
    [among] = peer["podSelector"]["matchExpressions"]
    assert (among["key"], among["values"]) == ("ray.io/node-type", ["head", "redis-cleanup"])
    host, _, port = CLUSTERS["cluster"]["gcsFaultToleranceOptions"]["redisAddress"].partition(":")
    service = named("redis.yaml", "Service")
    assert (host, int(port)) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])


def test_prometheus_scrapes_ports_that_pods_have_and_the_policy_lets_through():
    ports = {
        port["name"]: port["containerPort"]
        for group in GROUPS.values()
        for container in group["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    monitor = named("monitoring.yaml", "PodMonitor")["spec"]
    scraped = {ports[endpoint["port"]] for endpoint in monitor["podMetricsEndpoints"]}
    *_, prometheus = named("settings.yaml", "NetworkPolicy")["spec"]["ingress"]
    assert {entry["port"] for entry in prometheus["ports"]} == scraped
    for group in GROUPS.values():
        assert selects(monitor["selector"], group["template"]["metadata"]["labels"])


def test_the_job_waits_in_the_queue_of_the_quota_that_covers_it():
    local, shared = named("queue.yaml", "LocalQueue"), named("queue.yaml", "ClusterQueue")
    assert JOB["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == local["metadata"]["name"]
    assert local["spec"]["clusterQueue"] == shared["metadata"]["name"]
    # Kueue takes a job with an autoscaler as an elastic one alone, and none whose cluster stays.
    assert JOB["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    assert JOB["spec"]["shutdownAfterJobFinishes"]
    [group] = shared["spec"]["resourceGroups"]
    asked = {
        name
        for template in (group["template"] for group in GROUPS.values())
        for container in template["spec"]["containers"]
        for name in container["resources"]["limits"]
    }
    assert asked == set(group["coveredResources"])
    [flavor] = group["flavors"]
    assert flavor["name"] == named("queue.yaml", "ResourceFlavor")["metadata"]["name"]
    assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_the_job_runs_what_submit_would_and_as_submit_would():
    program = shlex.split(JOB["spec"]["entrypoint"])
    source = named("rayjob.yaml", "ConfigMap")
    spec = yaml.safe_load(source["data"]["spec.yaml"])
    assert program[:3] == ["python", "-m", MODULES[spec["job"]]]
    head = JOB["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    [volume] = [volume for volume in head["volumes"] if volume.get("configMap") == {"name": source["metadata"]["name"]}]
    [mount] = [mount for mount in head["containers"][0]["volumeMounts"] if mount["name"] == volume["name"]]
    assert program[3:] == [f"{mount['mountPath']}/spec.yaml"]
    assert JOB["metadata"]["name"] == spec["name"]
    assert yaml.safe_load(JOB["spec"]["runtimeEnvYAML"])["env_vars"].items() >= RAY_TRAIN.items()


def test_the_spec_of_the_job_is_one_but_for_what_lies_on_nodes_alone(tmp_path):
    document = yaml.safe_load(named("rayjob.yaml", "ConfigMap")["data"]["spec.yaml"])
    assert document["ledger"] == SETTINGS["ADVSEG_LEDGER"]
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(SpecError) as told:
        load_spec(path)
    [_, problem] = str(told.value).splitlines()
    assert problem.startswith("  dataset.root: ")


def test_no_secret_stands_in_a_template():
    assert not any(document["kind"] == "Secret" for _, document in DOCUMENTS)
    for name in SETTINGS:
        assert not re.search("PASSWORD|SECRET|TOKEN", name)
    for path in (ROOT / "infra").iterdir():
        assert not re.search(r"//[^/\s]*:[^/\s]*@", path.read_text()), path


def statements() -> Iterator[dict[str, Any]]:
    yield from json.loads((ROOT / "infra" / "bucket-policy.json").read_text())["Statement"]


def test_nodes_may_do_with_their_bucket_what_the_store_does_and_only_over_tls():
    allowed = {action for statement in statements() if statement["Effect"] == "Allow" for action in statement["Action"]}
    code = "".join(path.read_text() for path in (ROOT / "platform" / "storage").glob("*.py"))
    asked = {
        *re.findall(r"client\.(?!get_paginator|close)(\w+)\(", code),
        *re.findall(r'get_paginator\("(\w+)"\)', code),
    }
    assert {action for call in asked for action in ACTIONS[call]} <= allowed
    assert not any("*" in action for action in allowed)
    [denied] = [statement for statement in statements() if statement["Effect"] == "Deny"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    buckets = {
        resource for statement in statements() for resource in [statement["Resource"]] if isinstance(resource, str)
    }
    spec = yaml.safe_load(named("rayjob.yaml", "ConfigMap")["data"]["spec.yaml"])
    bucket = spec["storage"].removeprefix("s3://").partition("/")[0]
    assert buckets == {f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"}
