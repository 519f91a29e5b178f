"""One local cluster that the tests of this folder share, and the program as a user would call it."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command
from finished_sweep import Followed, follow, varied_sweep
from mlflow.tracking import MlflowClient
from orders import Orders
from small_sweep import small_sweep, write_tiny_shapes

from advseg.models.local_server import USER
from advseg.platform.base.keys import METRIC
from advseg.platform.services.connection import connect
from advseg.platform.services.services import down, up
from advseg.platform.spec.spec import Spec
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.loop import Training
from advseg.trainers.reporter import RecordingReporter

NOBODY = "http://127.0.0.1:9"
"""A proxy, as a company's network has one, which nothing of this machine may be asked through."""


@pytest.fixture(scope="session")
def node_secrets() -> dict[str, str]:
    """What the cluster's node has in its environment, as nodes that read from S3 or PostgreSQL have."""
    return {
        "AWS_ACCESS_KEY_ID": "canary-of-node-aws-id",
        "AWS_SECRET_ACCESS_KEY": "canary-of-node-aws-key",
        "HF_TOKEN": "canary-of-node-hugging-face",
        "PGPASSWORD": "canary-of-node-postgresql",
    }


@pytest.fixture(scope="session")
def orders_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trainings of the cluster look for orders."""
    return tmp_path_factory.mktemp("orders")


@pytest.fixture
def orders(orders_folder: Path) -> Orders:
    """Holds and breaks trainings of the cluster."""
    return Orders(orders_folder)


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, node_secrets: dict[str, str], orders_folder: Path
) -> Iterator[Path]:
    """The home folder of running services."""
    home = tmp_path_factory.mktemp("cluster")
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, secret in node_secrets.items():
                patch.setenv(name, secret)
            patch.setenv("http_proxy", NOBODY)
            patch.setenv("ADVSEG_TEST_ORDERS", str(orders_folder))
            patch.setenv("PYTHONPATH", str(Path(__file__).parent / "orders"), prepend=os.pathsep)
            up(home, cpus=2, say=print)
        yield home
    finally:
        down(home, say=print)


@pytest.fixture(scope="session")
def advseg(cluster: Path) -> Command:
    """Run a command of ours against the cluster."""
    return Command(cluster, {"http_proxy": NOBODY})


@pytest.fixture(scope="session")
def mlflow_client(cluster: Path) -> Iterator[MlflowClient]:
    """A client of the cluster's MLflow server, whose account this process has from here on."""
    services = connect(cluster)
    assert services.mlflow_password_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", services.mlflow_password_path.read_text())
        yield MlflowClient(services.tracking_uri)


@pytest.fixture(scope="session")
def tiny_shapes(cluster: Path, advseg: Command) -> Path:
    """A dataset on which training takes seconds."""
    return write_tiny_shapes(advseg, cluster / "data" / "tiny")


@pytest.fixture(scope="session")
def sweep_document(tiny_shapes: Path) -> Callable[..., dict[str, Any]]:
    """A sweep of a small network on that dataset, as `small_sweep` writes it."""
    return partial(small_sweep, tiny_shapes)


@pytest.fixture
def undisturbed(tmp_path: Path) -> Callable[[Spec, dict[str, float]], dict[int, float]]:
    """Train a trial of a sweep in this process, without Ray; its mean IoU by step."""

    def train(spec: Spec, params: dict[str, float]) -> dict[int, float]:
        recorded, threads = RecordingReporter(), torch.get_num_threads()
        torch.set_num_threads(1)  # as Ray's workers have
        try:
            folder = tmp_path / f"undisturbed-{hash(tuple(params.items()))}"
            Training(spec.with_values(params).recipe(), open_dataset(spec.dataset), folder).run(recorded)
        finally:
            torch.set_num_threads(threads)
        return {report.step: report.metrics[METRIC] for report in recorded.reports}

    return train


@pytest.fixture(scope="session")
def finished_spec(sweep_document: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A sweep of every kind of parameter."""
    return varied_sweep(sweep_document, "finished")


@pytest.fixture(scope="session")
def followed(advseg: Command, finished_spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """What was seen of it while it ran to its end."""
    return follow(advseg, finished_spec, tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def finished(followed: Followed) -> str:
    """Its name."""
    assert "supervised baseline on 2 Ray Train workers" in followed.output
    assert "job finished-1 ended: SUCCEEDED" in followed.output
    return "finished"
