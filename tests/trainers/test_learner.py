from dataclasses import replace

import pytest
import torch
from torch import Tensor

from advseg.models.compact import Compact
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.distributed import World
from advseg.trainers.learner import Learner, segmenter_learner
from advseg.trainers.meter import Meter
from advseg.trainers.settings import TrainerSettings

TRAINER = TrainerSettings(
    steps=10, augmentation=AugmentationSettings(crop=(16, 16)), body_lr_factor=3.0, head_lr_factor=2.0
)


def learner_of(trainer: TrainerSettings = TRAINER) -> tuple[Learner, Meter]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(3, 8).double()
    meter = Meter(World())
    return segmenter_learner(segmenter, trainer, meter), meter


def learn(learner: Learner, step: int) -> dict[str, Tensor]:
    """One step; the gradients that it was made by."""
    learner.begin()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    learner.learn_from(learner(images).square().mean())
    learner.update(step)
    return {name: p.grad.clone() for name, p in learner.network.named_parameters()}


def test_the_rate_follows_the_poly_schedule_and_body_and_head_have_factors_of_their_own():
    learner, _ = learner_of()

    learn(learner, 5)

    rate = 2.5e-4 * 0.5**0.9
    assert learner.rate(5) == pytest.approx(rate)
    body, head = learner.optimizer.param_groups
    assert (body["lr"], head["lr"]) == pytest.approx((3 * rate, 2 * rate))
    assert {id(p) for p in head["params"]} == {id(p) for p in learner.network.groups()["head"]}
    assert len(body["params"]) + len(head["params"]) == len(list(learner.network.parameters()))


@pytest.mark.parametrize("limit", [1e-3, 1e6])
def test_a_gradient_longer_than_allowed_is_scaled_down_and_a_shorter_one_left(limit):
    free, free_meter = learner_of()
    limited, limited_meter = learner_of(replace(TRAINER, max_gradient_norm=limit))

    theirs, ours = learn(free, 0), learn(limited, 0)

    norm = torch.nn.utils.get_total_norm(theirs.values()).item()
    expected = {name: gradient * min(1, limit / norm) for name, gradient in theirs.items()}
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)
    assert limited_meter.take() == pytest.approx({"gradient_norm/segmenter": norm})
    assert free_meter.take() == pytest.approx({"gradient_norm/segmenter": norm})


def test_a_loss_of_two_networks_is_learnt_from_by_the_one_that_is_asked_alone():
    (one, _), (other, _) = learner_of(), learner_of()
    images = torch.zeros(1, 3, 16, 16, dtype=torch.float64)

    one.learn_from((one(images) * other(images)).mean())

    assert all(p.grad is not None for p in one.network.parameters())
    assert all(p.grad is None for p in other.network.parameters())
