"""A spec over an empty dataset folder, and MLflow in an SQLite file: no server, no cluster."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine, event

from advseg.platform.spec import Spec
from advseg.platform.spec_file import load_spec


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """A valid sweep as a YAML file would hold it, its dataset beside that file."""
    (tmp_path / "data").mkdir()
    return {
        "job": "sweep",
        "name": "probe",
        "dataset": {"root": "data", "classes": ["background", "thing"]},
        "model": {"architecture": "compact", "width": 8},
        "discriminator": {"widths": [4], "classifier": "dense"},
        "trainer": {
            "steps": 8,
            "batch_size": 4,
            "augmentation": {"crop": [16, 16]},
            "segmenter_optimizer": {"name": "adamw", "lr": "1e-3"},
        },
        "sweep": {
            "trials": 5,
            "space": {
                "trainer.lambda_adv": {"low": 0.001, "high": 1, "log": True},
                "trainer.threshold": {"low": 0, "high": 0.9},
            },
        },
    }


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a document as a spec file."""

    def write(document: dict[str, Any]) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


@pytest.fixture
def make_spec(document: dict[str, Any], write_spec: Callable[[dict[str, Any]], Path]) -> Callable[..., Spec]:
    """The valid spec with overrides."""
    return lambda *overrides: load_spec(write_spec(document), overrides)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database whose migrations, which take seconds, have run."""
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """An MLflow client with a database and artifacts of its own."""
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Without a server, new experiments put their artifacts in the working folder.
    monkeypatch.chdir(tmp_path)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """SQLite need not outlive a power cut in a test."""

    def hurry(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)
    yield
    event.remove(Engine, "connect", hurry)
