"""The released code's classifier in effect: two of four branches are summed, and the step leaves the others alone."""

from dataclasses import replace

import pytest
import torch

from advseg.models.deeplab_v2 import DeepLabV2
from advseg.models.discriminator import Discriminator
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.distributed import World
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.adversarial_step import Adversarial
from advseg.trainers.methods.method import Batch
from advseg.trainers.optimizers import AdamSettings, SGDSettings
from advseg.trainers.settings import TrainerSettings

METHOD = AdversarialSettings(semi_start=0, threshold=0.3)
TRAINER = TrainerSettings(steps=3, augmentation=AugmentationSettings(crop=(33, 33)))


def batch_of(seed: int) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.randn(2, 3, 33, 33, generator=rng, dtype=torch.float64),
        labels=torch.randint(0, 3, (2, 33, 33), generator=rng),
        real_labels=torch.randint(0, 3, (2, 33, 33), generator=rng),
        unlabelled=torch.randn(2, 3, 33, 33, generator=rng, dtype=torch.float64),
        unlabelled_valid=torch.ones(2, 33, 33, dtype=torch.bool),
        unlabelled_labels=torch.full((2, 33, 33), 255),
    )


@pytest.mark.parametrize("optimizer", [SGDSettings(lr=1e-4, weight_decay=0.1), AdamSettings(name="adamw")])
def test_the_step_neither_moves_nor_decays_the_branches_that_are_not_summed(optimizer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = DeepLabV2(3, (1, 1, 1, 1), frozen_batch_norm=False, branches=2).double()
        discriminator = Discriminator(3, (4,), "dense").double()
    before = {name: weight.clone() for name, weight in segmenter.layer5.named_parameters()}
    trainer = replace(TRAINER, segmenter_optimizer=optimizer)
    method = Adversarial(METHOD, trainer, segmenter, discriminator, ignore_index=255, world=World())

    for step in range(3):
        method.step(step, [batch_of(step)])

    moved = {name for name, weight in segmenter.layer5.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {f"conv2d_list.{number}.{part}" for number in (0, 1) for part in ("weight", "bias")}

    again = Adversarial(METHOD, trainer, segmenter, discriminator, ignore_index=255, world=World())
    again.load_state_dict(method.state_dict())
    again.step(2, [batch_of(2)])
    assert torch.equal(segmenter.layer5.conv2d_list[3].weight, before["conv2d_list.3.weight"])
