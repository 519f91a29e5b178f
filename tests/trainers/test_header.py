"""What a training says that it is about to do."""

import logging
from pathlib import Path
from types import ModuleType

import pytest
import torch

from advseg.models.architectures import build_segmenter
from advseg.models.bundle import read_card
from advseg.models.inference import EvaluationSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.notes import few_note
from advseg.trainers.header import header
from advseg.trainers.loop import Training
from advseg.trainers.reporter import Reporters


def test_device_network_images_and_steps_are_told_first(
    program: ModuleType, shapes: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "advseg")
    recipe = program.recipe_of("supervised", steps=3, save_every=2, evaluation=EvaluationSettings(images=2))
    training = Training(recipe, shapes, tmp_path, device=torch.device("cpu"))
    training.run(Reporters())
    parameters = sum(parameter.numel() for parameter in training.method.segmenter.parameters())
    network, images, steps = caplog.messages[:3]
    assert network.startswith(f"compact of {parameters:,} parameters on cpu with ")
    assert images.endswith(" images of their own size, in crops of 24 x 24")
    assert steps == "3 steps of 2 images, evaluated every 3 by 2 of the validation images, saved every 2"
    training.export(tmp_path / "model", {})
    assert read_card(tmp_path / "model").lineage["judged_by"] == 2


def test_of_several_workers_it_says_what_each_has_and_what_they_share(program: ModuleType, shapes: Dataset) -> None:
    recipe, classes = program.recipe_of("supervised"), len(shapes.classes)
    network, _, steps = header(recipe, shapes, build_segmenter(recipe.segmenter, classes), torch.device("cpu"), 4)[:3]
    assert network.endswith(", in each of 4 processes, which share every batch")
    assert steps == f"{recipe.trainer.steps} steps of 2 images, evaluated every 3"


def test_what_the_masks_hold_too_little_of_is_noted_once(
    program: ModuleType, shapes: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "advseg")
    Training(program.recipe_of("supervised", steps=3), shapes, tmp_path).run(Reporters())
    assert caplog.messages[3:].count(f"note: {few_note(len(shapes.validation))}") == 1
