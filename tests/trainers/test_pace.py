"""What a training takes is measured by a few of its images, and its own machinery."""

from pathlib import Path
from typing import ClassVar

import pytest

from advseg.models.architectures import CompactSettings
from advseg.models.discriminator import DiscriminatorSettings
from advseg.trainers import batches
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import DatasetSettings
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes
from advseg.trainers.drawing import Drawing, Drawn
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.method import Wants
from advseg.trainers.pace import measure_pace
from advseg.trainers.progress import ticks
from advseg.trainers.recipe import Recipe
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings


class Counted(Drawing):
    """Draws as processes do, without any."""

    steps: ClassVar[list[int]] = []

    def draw(self, step: int, wants: Wants) -> list[Drawn]:
        self.steps.append(step)
        return super().draw(step, wants)

    def close(self) -> None:
        """Nothing to end."""


def test_a_few_images_tell_the_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "Drawers", Counted)
    write_shapes(tmp_path, ShapesSettings(labelled=9, unlabelled=9, val=9, test=1, size=16))
    dataset = open_dataset(DatasetSettings(root=tmp_path, classes=CLASSES))
    recipe = Recipe(
        segmenter=CompactSettings(width=8),
        method=AdversarialSettings(semi_start=4, discriminator=DiscriminatorSettings(widths=(8,), classifier="dense")),
        trainer=TrainerSettings(
            steps=40,
            batch_size=2,
            augmentation=AugmentationSettings(crop=(16, 16)),
            speed=SpeedSettings(workers=1),
        ),
    )
    before = ticks()

    pace = measure_pace(recipe, dataset)

    assert min(pace.step, pace.reading, pace.judging, pace.drawing) > 0
    # Batches were drawn as the training draws them.
    assert min(Counted.steps) == 20
    # Of the validation images few were looked at, and the training was not begun.
    assert ticks() - before < 9
