"""What a training says that it is about to do."""

import logging
from pathlib import Path
from types import ModuleType

import pytest
import torch

from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.notes import few_note
from advseg.trainers.loop import Training
from advseg.trainers.reporter import Reporters


def test_device_network_images_and_steps_are_told_first(
    program: ModuleType, shapes: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "advseg")
    recipe = program.recipe_of("supervised", steps=3, save_every=2)
    training = Training(recipe, shapes, tmp_path, device=torch.device("cpu"))
    training.run(Reporters())
    parameters = sum(parameter.numel() for parameter in training.method.segmenter.parameters())
    network, images, steps = caplog.messages[:3]
    assert network.startswith(f"compact of {parameters:,} parameters on cpu with ")
    assert images.endswith(" images of their own size, in crops of 24 x 24")
    assert steps == "3 steps of 2 images, evaluated every 3, saved every 2"


def test_what_the_masks_hold_too_little_of_is_noted_once(
    program: ModuleType, shapes: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "advseg")
    Training(program.recipe_of("supervised", steps=3), shapes, tmp_path).run(Reporters())
    assert caplog.messages[3:].count(f"note: {few_note(len(shapes.validation))}") == 1
