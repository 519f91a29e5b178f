"""One local cluster that the tests of this folder share, and the program as a user would call it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient
from orders import Orders
from waiting import LIMIT_S

from advseg.platform.base.keys import METRIC
from advseg.platform.base.mlflow_account import USER
from advseg.platform.services.connection import connect
from advseg.platform.services.services import down, up
from advseg.platform.spec.spec import Spec
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.loop import Training
from advseg.trainers.reporter import RecordingReporter


class Command:
    """Runs a command of ours against a cluster; its output is `stdout` and `stderr`."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def line(self, *arguments: str | Path) -> list[str]:
        """The command as the system takes it."""
        return [sys.executable, "-m", "advseg.jobs.cli", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        """The environment of a user of the cluster."""
        return {**os.environ, "ADVSEG_HOME": str(self._home)}

    def __call__(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.line(*arguments),
            env=self.environment(),
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == status, f"{done.args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done


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
            patch.setenv("ADVSEG_TEST_ORDERS", str(orders_folder))
            patch.setenv("PYTHONPATH", str(Path(__file__).parent / "orders"), prepend=os.pathsep)
            up(home, cpus=2, say=print)
        yield home
    finally:
        down(home, say=print)


@pytest.fixture(scope="session")
def advseg(cluster: Path) -> Command:
    """Run a command of ours against the cluster."""
    return Command(cluster)


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
    root = cluster / "data" / "tiny"
    advseg("data", "shapes", root, "--labelled=8", "--unlabelled=16", "--val=8", "--test=2", "--size=32")
    return root


@pytest.fixture(scope="session")
def sweep_document(tiny_shapes: Path) -> Callable[..., dict[str, Any]]:
    """A sweep of a small network, as a YAML file would hold it; `trainer` and `sweep` are added to what is there."""

    def write(name: str, *, trainer: dict[str, Any], sweep: dict[str, Any], **sections: Any) -> dict[str, Any]:
        return {
            "job": "sweep",
            "name": name,
            "dataset": {
                "root": str(tiny_shapes),
                "classes": ["background", "circle", "square", "triangle", "ring", "flower"],
            },
            "model": {"architecture": "compact", "width": 8},
            "method": {
                "name": "adversarial",
                "semi_start": 4,
                "discriminator": {"widths": [8, 8], "classifier": "dense"},
            },
            "trainer": {
                "batch_size": 4,
                "segmenter_optimizer": {"name": "adamw", "lr": 0.003},
                "augmentation": {"crop": [32, 32], "rotate": True},
                **trainer,
            },
            "sweep": {"space": {"method.lambda_adv": {"low": 0.001, "high": 1, "log": True}}, **sweep},
            **sections,
        }

    return write


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
