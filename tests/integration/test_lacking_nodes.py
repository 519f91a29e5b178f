"""Nodes that lack what a job needs, on a cluster of machines that share one folder and no dataset."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command
from machines import hindrance
from ray.job_submission import JobSubmissionClient
from ray_nodes import HEAD, RayNodes
from small_sweep import small_sweep, write_tiny_shapes
from team import Team, team
from waiting import wait_for

# A cluster of its own; what is decided of the answers that it brings is tested without one.
pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def cluster() -> Iterator[Team]:
    """Two nodes of one CPU, and a head of none."""
    if reason := hindrance():
        pytest.skip(f"a node on a machine of its own needs root on Linux, and namespaces: {reason}")
    with team(shared=True) as members:
        for name in ("w1", "w2"):
            members.nodes.join(name, cpus=1)
        yield members


@pytest.fixture(scope="module")
def alice(cluster: Team, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run a command of ours from a machine that is none of the nodes."""
    return Command(tmp_path_factory.mktemp("alice"), cluster.environment("alice"))


@pytest.fixture(scope="module")
def shapes(alice: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_shapes(alice, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def submit(cluster: Team, alice: Command, tmp_path: Path) -> Callable[..., str]:
    """Submit a training of two workers, or other resources, on a dataset that no machine shares; what was said."""

    def submit(name: str, steps: int = 8, *, status: int = 0, **resources: Any) -> str:
        document = small_sweep(
            cluster.home / "data" / "tiny",
            name,
            trainer={"steps": steps, "evaluate_every": 4},
            sweep={},
            storage=f"{cluster.shared}/runs",
            resources={"workers": 2, "placement": "spread", **resources},
        )
        del document["sweep"]
        (path := tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**document, "job": "train"}))
        done = alice("submit", path, status=status)
        return done.stdout + done.stderr

    return submit


@pytest.fixture
def jobs(cluster: Team) -> JobSubmissionClient:
    environment = cluster.environment("alice")
    # Ray has read by now that this process has no token.
    headers = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
    return JobSubmissionClient(environment["RAY_ADDRESS"], headers=headers)


def bring(shapes: Path, nodes: RayNodes, name: str) -> Path:
    """Copy the dataset to a node's own disk."""
    there = nodes.machines[name].disk / "data" / "tiny"
    shutil.copytree(shapes, there, dirs_exist_ok=True)
    return there


def test_are_named_before_anything_trains_and_the_job_goes_on_once_they_have_it(
    cluster: Team, alice: Command, shapes: Path, submit: Callable[..., str], jobs: JobSubmissionClient
) -> None:
    nodes = cluster.nodes
    bring(shapes, nodes, "w1")

    assert "dataset.root is not on this machine: it is looked for on the cluster" in submit("pair")
    alice("job", "wait", "pair", status=1)
    said = alice("job", "logs", "pair").stdout
    lost = cluster.home / "data" / "tiny"
    assert f"error: 1 of 2 nodes cannot train this job:\n  w2 (127.0.0.4): dataset.root: folder {lost} does not" in said

    image = next((bring(shapes, nodes, "w2") / "JPEGImages").iterdir())
    content = bytearray(image.read_bytes())
    content[-3] ^= 1  # in the last pixels
    image.write_bytes(content)
    submit("pair")
    alice("job", "wait", "pair", status=1)
    assert "its copy of the dataset has digest" in alice("job", "logs", "pair").stdout

    bring(shapes, nodes, "w2")
    submit("pair")
    alice("job", "wait", "pair")
    driver = jobs.get_job_info("pair-3").driver_node_id
    assert driver
    assert nodes.name_of(driver) != HEAD


def test_too_small_are_refused_at_once(alice: Command, submit: Callable[..., str]) -> None:
    said = submit("big", status=2, cpus_per_worker=2)
    assert said.startswith("error: a worker asks for 2 CPU, but the greatest node, ")
    assert "big-1" not in alice("job", "list").stdout


def test_are_named_when_they_join(
    cluster: Team, alice: Command, shapes: Path, submit: Callable[..., str], jobs: JobSubmissionClient
) -> None:
    for name in ("w1", "w2"):
        bring(shapes, cluster.nodes, name)
    submit("long", steps=10**6, workers=1)
    wait_for(lambda: '"state": "RUNNING", "params": {}, "step": 4' in jobs.get_job_logs("long-1"))
    cluster.nodes.join("w3", cpus=1)
    wait_for(lambda: "has joined, but what comes onto it will fail: dataset.root: " in jobs.get_job_logs("long-1"))
    alice("job", "stop", "long")
