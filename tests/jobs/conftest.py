"""A tiny dataset, a model that was trained on it, and the program as a user would call it, in this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes

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
        "discriminator": {"widths": [8], "classifier": "dense"},
        "trainer": {
            "steps": 4,
            "batch_size": 2,
            "evaluate_every": 2,
            "semi_start": 1,
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

    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
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
