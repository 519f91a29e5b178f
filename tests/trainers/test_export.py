"""Of which step the model is."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from advseg.models import load
from advseg.models.decoding import Decoding
from advseg.trainers import loop
from advseg.trainers.checkpoint import CHECKPOINTS, checkpoint_at, load_checkpoint
from advseg.trainers.loop import Training
from advseg.trainers.reporter import Reporters

MIOUS = {3: 10.0, 6: 50.0, 9: 20.0, 12: 30.0}


@pytest.fixture
def training(program: Any, shapes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    """One that was best at half-time, and has ended."""
    training = Training(program.recipe_of(), shapes, tmp_path / "run", kept=1)
    evaluate = loop.evaluate

    def with_miou(*parts: Any, **settings: Any) -> Any:
        found = evaluate(*parts, **settings)
        return replace(found, metrics={**found.metrics, "val/miou": MIOUS[training.step]})

    monkeypatch.setattr(loop, "evaluate", with_miou)
    outcome = training.run(Reporters())
    assert (outcome.best_miou, outcome.best_step) == (50.0, 6)
    return training


def weights_at(training: Training, step: int) -> dict[str, torch.Tensor]:
    training.method.load_state_dict(load_checkpoint(checkpoint_at(training.directory / CHECKPOINTS, step))["method"])
    return {name: tensor.clone() for name, tensor in training.method.segmenter.state_dict().items()}


@pytest.mark.parametrize(("which", "step"), [("last", 12), ("best", 6)])
def test_the_model_is_of_the_step_that_is_asked_for(training: Training, tmp_path: Path, which: Any, step: int) -> None:
    training.export(tmp_path / "model", {}, which)

    model = load(tmp_path / "model")
    assert (model.card.lineage["step"], model.card.metrics["val/miou"]) == (step, MIOUS[step])
    torch.testing.assert_close(model.segmenter.state_dict(), weights_at(training, step), rtol=0, atol=0)


def test_a_training_that_has_ended_exports_its_best_step_again(
    training: Training, program: Any, shapes: Any, tmp_path: Path
) -> None:
    again = Training(program.recipe_of(), shapes, tmp_path / "run", kept=1)
    again.run(Reporters())
    again.export(tmp_path / "model", {}, "best")
    assert load(tmp_path / "model").card.lineage["step"] == 6


def test_the_model_reads_images_as_those_of_its_dataset_were(program: Any, shapes: Any, tmp_path: Path) -> None:
    decoding = Decoding(scale=(0, 4095), orientation="ignore")
    Training(program.recipe_of(), replace(shapes, decoding=decoding), tmp_path / "run").export(tmp_path / "model", {})
    assert load(tmp_path / "model").card.decoding == decoding


def test_where_the_best_checkpoint_is_gone_the_last_is_exported_with_a_warning(
    training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(checkpoint_at(training.directory / CHECKPOINTS, 6))
    with caplog.at_level(logging.WARNING, "advseg"):
        training.export(tmp_path / "model", {}, "best")
    assert load(tmp_path / "model").card.lineage["step"] == 12
    assert "the model is that of step 12, the last: of the best one" in caplog.text


def test_where_the_best_checkpoint_is_gone_a_whole_model_of_that_step_stays(
    training: Training, program: Any, shapes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model"
    training.export(path, {}, "best")
    shutil.rmtree(checkpoint_at(training.directory / CHECKPOINTS, 6))
    again = Training(program.recipe_of(), shapes, training.directory, kept=1)
    again.saved.resume()

    with caplog.at_level(logging.WARNING, "advseg"):
        again.export(path, {}, "best")
    assert load(path).card.lineage["step"] == 6
    assert f"{path} stays, which is of the best step, 6: " in caplog.text

    (path / "segmenter.safetensors").write_bytes(b"")
    again.export(path, {}, "best")
    assert load(path).card.lineage["step"] == 12
