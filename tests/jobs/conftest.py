"""A tiny dataset, a model that was trained on it, and the program as a user would call it, in this process."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from restored_mlflow import RestoredMlflow

Command = Callable[..., tuple[int, str, str]]

SIZE = 16


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shapes dataset that no test changes."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, ShapesSettings(labelled=3, unlabelled=3, val=2, test=2, size=SIZE))
    return root


@pytest.fixture(scope="session")
def document(shapes: Path) -> dict[str, Any]:
    """A training of a few steps, as a YAML file would hold it."""
    return {
        "job": "train",
        "name": "tiny",
        "dataset": {"root": str(shapes), "classes": list(CLASSES)},
        "model": {"architecture": "compact", "width": 8},
        "method": {
            "name": "adversarial",
            "semi_start": 0,
            "discriminator": {"widths": [8], "classifier": "dense"},
        },
        "trainer": {
            "steps": 4,
            "batch_size": 2,
            "evaluate_every": 2,
            "augmentation": {"crop": [SIZE, SIZE]},
        },
    }


@pytest.fixture(scope="session")
def spec(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec file of that training."""
    path = tmp_path_factory.mktemp("spec") / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="session")
def model(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of that training."""
    from advseg.jobs.train import train
    from advseg.platform.spec.spec_file import load_spec
    from advseg.trainers.reporter import Reporters

    folder = tmp_path_factory.mktemp("run")
    train(load_spec(spec), folder, Reporters())
    return folder / "model"


@pytest.fixture
def advseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command where no services run; give its exit status, output and errors."""
    from advseg.jobs.cli.main import main

    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI", "ADVSEG_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADVSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["advseg", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


class FakeJobs:
    """Ray's Jobs API for jobs by id, of each of which the state and the log are given. Stopping one takes a look."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.logs: dict[str, str] = {}

    def add(self, id: str, state: str = "RUNNING", log: str = "") -> None:
        self.states[id], self.logs[id] = state, log

    def list_jobs(self) -> list[Any]:
        return [
            SimpleNamespace(
                submission_id=id,
                status=self.get_job_status(id),
                message=f"in [/tmp/{id}]",
                start_time=1000 * place,
                end_time=None,
                metadata={"name": id.rpartition("-")[0]},
            )
            for place, id in enumerate(self.states)
        ]

    def get_job_status(self, id: str) -> Any:
        from ray.job_submission import JobStatus

        return JobStatus(self.states[id])

    def get_job_logs(self, id: str) -> str:
        return self.logs[id]

    def get_job_info(self, id: str) -> Any:
        return next(job for job in self.list_jobs() if job.submission_id == id)

    async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
        yield self.logs[id]

    def stop_job(self, id: str) -> None:
        self.states[id] = "STOPPED"


@pytest.fixture
def jobs(advseg: Command, monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    """The jobs of the cluster that the program then finds."""
    fake = FakeJobs()
    services = SimpleNamespace(
        tracking_uri="http://mlflow", dashboard_url="http://ray", mlflow_page="http://mlflow", enter=lambda: None
    )
    monkeypatch.setattr("advseg.platform.services.connection.connect", lambda *_: services)
    monkeypatch.setattr("advseg.platform.cluster.client.connect_jobs", lambda _: fake)
    return fake


@pytest.fixture
def tracking(client: "MlflowClient", advseg: Command, monkeypatch: pytest.MonkeyPatch) -> "MlflowClient":
    """A client of the MLflow that the program then finds."""
    find(client, monkeypatch)
    return client


@pytest.fixture
def registered(tracking: "MlflowClient", made: "RestoredMlflow", monkeypatch: pytest.MonkeyPatch) -> "MlflowClient":
    """A client, which the program finds, of what a test's file has `made`."""
    client = made.restore()
    find(client, monkeypatch)
    return client


def find(client: "MlflowClient", monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the program finds the MLflow of a client."""
    services = SimpleNamespace(tracking_uri=client.tracking_uri, enter=lambda: None)
    monkeypatch.setattr("advseg.platform.services.connection.connect", lambda *_: services)
