"""What the parts of a recipe demand of each other, and some of themselves."""

from dataclasses import replace

import pytest

from advseg.models.architectures import DeepLabV3PlusSettings
from advseg.models.discriminator import DiscriminatorSettings
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import DatasetSettings
from advseg.trainers.optimizers import AdamSettings
from advseg.trainers.settings import TrainerSettings

SUPERVISED = {"lambda_adv": 0.0, "lambda_semi_adv": 0.0, "lambda_semi": 0.0}


@pytest.mark.parametrize(("classifier", "side"), [("strided", 8), ("dense", 4)])
def test_a_crop_must_leave_something_after_the_discriminators_last_stage(program, classifier, side):
    discriminator = DiscriminatorSettings(widths=(4, 4), classifier=classifier)

    def recipe(side: int, **knobs):
        crop = AugmentationSettings(crop=(side, side))
        return program.recipe_of(discriminator=discriminator, augmentation=crop, **knobs)

    assert recipe(side)
    assert recipe(side - 1, **SUPERVISED)
    with pytest.raises(ValueError, match=rf"crop is {side - 1} x {side - 1}, but .* needs {side} pixels"):
        recipe(side - 1)


def test_supervised_training_takes_any_crop(program):
    assert program.recipe_of("supervised", augmentation=AugmentationSettings(crop=(1, 1)))


@pytest.mark.parametrize("name", ["semi", "semi_adv"])
@pytest.mark.parametrize("start", [12, 5000])
def test_a_loss_that_would_never_start_is_refused_with_the_value_the_rule_and_the_remedy(program, name, start):
    with pytest.raises(ValueError) as caught:
        program.recipe_of(steps=12, **{f"{name}_start": start, f"lambda_{name}": 0.1})

    assert str(caught.value) == (
        f"method.{name}_start must be below trainer.steps, 12, as method.lambda_{name} is 0.1, but is {start}: "
        f"lower it, raise trainer.steps or set method.lambda_{name} to 0"
    )


@pytest.mark.parametrize("name", ["semi", "semi_adv"])
def test_a_loss_may_start_at_the_last_step_or_have_no_weight(program, name):
    assert program.recipe_of(steps=12, **{f"{name}_start": 11})
    assert program.recipe_of(steps=12, **{f"{name}_start": 12, f"lambda_{name}": 0.0})


@pytest.mark.parametrize("batches", [{"batch_size": 1}, {"batch_size": 4, "accumulation": 4}])
def test_image_pooling_needs_two_images_at_once_unless_batch_norm_is_frozen(program, batches):
    recipe = program.recipe_of("supervised", **batches)

    assert replace(recipe, segmenter=DeepLabV3PlusSettings(batch_norm="frozen"))
    with pytest.raises(ValueError) as caught:
        replace(recipe, segmenter=DeepLabV3PlusSettings())

    assert str(caught.value) == (
        "trainer.batch_size / accumulation is 1, but deeplab_v3plus_resnet101 learns from at least 2 images at once "
        "where model.batch_norm is batch: raise it, or set model.batch_norm to frozen"
    )


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
