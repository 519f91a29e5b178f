"""A training that augments on its device, which is a CPU here."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advseg.trainers.checkpoint import newest_checkpoint
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.jitter import JitterSettings
from advseg.trainers.loop import Training
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import RecordingReporter, Report

UNSCALED = AugmentationSettings(crop=(24, 24), rotate=True)
SCALED = replace(
    UNSCALED, scale=(0.5, 1.5), jitter=JitterSettings(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
)


def trained(recipe: Recipe, shapes: Dataset, directory: Path, on_device: bool) -> tuple[list[Report], dict]:
    """All reports, and the networks at the end."""
    speed = replace(recipe.trainer.speed, augment_on_device=on_device)
    recipe = replace(recipe, trainer=replace(recipe.trainer, speed=speed))
    reporter = RecordingReporter()
    Training(recipe, shapes, directory, device=torch.device("cpu")).run(reporter)
    found = newest_checkpoint(directory / "checkpoints")
    assert found
    return reporter.reports, found[1]["method"]


def test_without_scaling_and_colours_it_is_the_same_to_the_bits(program, shapes, tmp_path):
    recipe = program.recipe_of(augmentation=UNSCALED)

    there, here = (trained(recipe, shapes, tmp_path / str(on), on) for on in (True, False))

    assert there[0] == here[0]
    torch.testing.assert_close(there[1], here[1], rtol=0, atol=0)


def test_with_scaling_and_colours_it_is_near(program, shapes, tmp_path):
    """Pixels differ by rounding to whole numbers: one grey level in 255, and now and then two."""
    recipe = program.recipe_of(augmentation=SCALED, steps=3, evaluate_every=1)

    (there, _), (here, _) = (trained(recipe, shapes, tmp_path / str(on), on) for on in (True, False))

    assert there != here
    for ours, theirs in zip(there, here, strict=True):
        losses = {name for name in theirs.metrics if name.startswith("loss/")}
        assert losses >= {"loss/ce", "loss/d"}
        for name in losses:
            assert ours.metrics[name] == pytest.approx(theirs.metrics[name], rel=0.02)
