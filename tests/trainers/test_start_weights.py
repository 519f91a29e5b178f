"""Where a training starts: from the weights that its recipe names, if it has no checkpoint."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from advseg.models import load
from advseg.models.architectures import CompactSettings, build_segmenter
from advseg.trainers.errors import UserError
from advseg.trainers.loop import Training
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import RecordingReporter, Report

HEAD = "branches."


@pytest.fixture
def weights(tmp_path) -> Path:
    """Of a network for another number of classes."""
    state = {name: tensor + 0.1 for name, tensor in build_segmenter(CompactSettings(width=8), 9).state_dict().items()}
    save_file(state, tmp_path / "start.safetensors")
    return tmp_path / "start.safetensors"


def recipe_with(program, weights: Path | str | None, **trainer) -> Recipe:
    recipe = program.recipe_of(**trainer)
    return replace(recipe, segmenter=replace(recipe.segmenter, weights=str(weights) if weights else None))


class Quits:
    """Stops the run at its second report."""

    def report(self, report: Report) -> None:
        if report.step == 6:
            raise KeyboardInterrupt


STILL = {"steps": 1, "segmenter_optimizer": SGDSettings(lr=1e-30)}


def test_a_fresh_run_starts_from_the_weights_and_says_what_it_took(program, shapes, weights, tmp_path, caplog):
    fresh = Training(recipe_with(program, None), shapes, tmp_path / "fresh").method.segmenter.state_dict()
    training = Training(recipe_with(program, weights, **STILL), shapes, tmp_path / "run")

    with caplog.at_level(logging.INFO, "advseg"):
        training.run(RecordingReporter())

    state, given = training.method.segmenter.state_dict(), load_file(weights)
    for name, tensor in state.items():
        assert torch.equal(tensor, fresh[name] if name.startswith(HEAD) else given[name]), name
    assert [line for line in caplog.messages if "start.safetensors: 29 of 37 tensors matched" in line]


def test_weights_may_lie_elsewhere_on_this_machine_than_the_recipe_says(program, shapes, weights, tmp_path):
    recipe = recipe_with(program, "s3://bucket/start.safetensors", **STILL)
    training = Training(recipe, shapes, tmp_path / "run", weights=weights)

    training.run(RecordingReporter())

    assert torch.equal(training.method.segmenter.stem[0].weight, load_file(weights)["stem.0.weight"])


def test_a_run_that_resumes_needs_no_start_weights(program, shapes, weights, tmp_path):
    recipe = recipe_with(program, weights)
    whole = Training(recipe, shapes, tmp_path / "whole")
    whole.run(RecordingReporter())
    with pytest.raises(KeyboardInterrupt):
        Training(recipe, shapes, tmp_path / "run").run(Quits())
    weights.unlink()
    resumed = Training(recipe, shapes, tmp_path / "run")

    resumed.run(RecordingReporter())

    torch.testing.assert_close(
        resumed.method.segmenter.state_dict(), whole.method.segmenter.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("width", "message"), [(16, "do not fit the body of compact: "), (8, r"nowhere.* do not exist: put them there")]
)
def test_weights_that_cannot_be_taken_stop_the_run_before_it_starts(program, shapes, weights, tmp_path, width, message):
    path = weights if width == 16 else tmp_path / "nowhere.pth"
    recipe = recipe_with(program, path)
    recipe = replace(recipe, segmenter=replace(recipe.segmenter, width=width))

    with pytest.raises(UserError, match=message):
        Training(recipe, shapes, tmp_path / "run").run(RecordingReporter())

    assert not (tmp_path / "run").exists()


def test_an_exported_model_does_not_point_at_its_start_weights(program, shapes, weights, tmp_path):
    training = Training(recipe_with(program, weights, **STILL, resize=(24, 40)), shapes, tmp_path / "run")
    training.run(RecordingReporter())

    training.export(tmp_path / "model", {})

    card = load(tmp_path / "model").card
    assert card.segmenter == CompactSettings(width=8, weights=None)
    assert card.resize == (24, 40)
    assert str(tmp_path) not in (tmp_path / "model" / "model.json").read_text()
