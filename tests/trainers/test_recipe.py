"""What the parts of a recipe demand of each other."""

import pytest

from advseg.models.architectures import CompactSettings
from advseg.models.discriminator import DiscriminatorSettings
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import DatasetSettings
from advseg.trainers.optimizers import AdamSettings
from advseg.trainers.recipe import Recipe, TrainerSettings


def recipe(side: int, widths: tuple[int, ...], classifier: str, **trainer: float) -> Recipe:
    return Recipe(
        segmenter=CompactSettings(width=8),
        discriminator=DiscriminatorSettings(widths=widths, classifier=classifier),
        trainer=TrainerSettings(steps=1, augmentation=AugmentationSettings(crop=(side, side)), **trainer),
    )


@pytest.mark.parametrize(("classifier", "side"), [("strided", 8), ("dense", 4)])
def test_a_crop_must_leave_something_after_the_discriminators_last_stage(classifier, side):
    assert recipe(side, (4, 4), classifier)
    with pytest.raises(ValueError, match=rf"crop is {side - 1} x {side - 1}, but .* needs {side} pixels"):
        recipe(side - 1, (4, 4), classifier)


def test_supervised_training_takes_any_crop():
    assert recipe(3, (4, 4), "strided", lambda_adv=0, lambda_semi=0, lambda_semi_adv=0)


@pytest.mark.parametrize("classes", [("only",), ("a", "b", "a")])
def test_a_dataset_needs_two_or_more_different_classes(classes, tmp_path):
    with pytest.raises(ValueError, match="classes must be two or more different names"):
        DatasetSettings(root=tmp_path, classes=classes)


def test_a_beta_of_one_is_refused():
    with pytest.raises(ValueError, match=r"betas must be in \[0, 1\), but is 1"):
        AdamSettings(betas=(0.9, 1.0))


def test_a_seed_that_torch_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"seed must be in \[0, .*\), but is 9223372036854775808"):
        TrainerSettings(steps=1, augmentation=AugmentationSettings(crop=(8, 8)), seed=2**63)
