"""The cluster templates, by parsing: nothing here builds an image or reaches a cluster."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
CLUSTER = yaml.safe_load((ROOT / "infra" / "raycluster.yaml").read_text())
GROUPS = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]


def test_all_that_the_image_copies_is_there():
    copied = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    assert {"models", "trainers", "platform", "jobs", "pyproject.toml"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_installs_the_pinned_versions_and_runs_as_no_root():
    assert 'pip install --no-cache-dir --constraint constraints.txt ".[platform,postgresql]"' in DOCKERFILE
    assert DOCKERFILE.index("USER ray") > DOCKERFILE.index("pip install")


def test_the_cluster_runs_the_ray_that_the_image_installs():
    assert CLUSTER["kind"] == "RayCluster"
    assert CLUSTER["spec"]["rayVersion"] == version("ray")


def test_the_cluster_asks_for_a_token():
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.get("groupName", "head"))
def test_every_pod_mounts_its_volumes_and_has_limits(group):
    pod = group["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
