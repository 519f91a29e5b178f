from functools import partial
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.optimizers import AdamSettings, Schedule, SGDSettings, build_optimizer, set_rate
from advseg.trainers.settings import POWER, TrainerSettings


def groups():
    return [{"params": [torch.nn.Parameter(torch.ones(2))], "scale": scale} for scale in (1.0, 10.0)]


@pytest.mark.parametrize(
    ("chosen", "kind", "expected"),
    [
        (
            SGDSettings(momentum=0.8, weight_decay=0.1),
            torch.optim.SGD,
            {"momentum": 0.8, "weight_decay": 0.1, "nesterov": False},
        ),
        (SGDSettings(nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (AdamSettings(betas=(0.5, 0.9)), torch.optim.Adam, {"betas": (0.5, 0.9), "weight_decay": 0.0}),
        (AdamSettings(name="adamw", weight_decay=0.3), torch.optim.AdamW, {"weight_decay": 0.3}),
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_settings_build_the_optimizer_that_they_name(chosen, kind, expected, fused):
    optimizer = build_optimizer(chosen, groups(), fused=fused)

    assert type(optimizer) is kind
    assert len(optimizer.param_groups) == 2
    for group in optimizer.param_groups:
        assert {name: group[name] for name in expected} == expected
        assert group["fused"] is fused


def test_each_group_learns_at_its_multiple_of_the_rate():
    optimizer = build_optimizer(SGDSettings(), groups(), fused=True)

    set_rate(optimizer, 0.02)

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.2])


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (SGDSettings, {"lr": 0.0}, "lr must be above 0, but is 0"),
        (SGDSettings, {"momentum": 1.1}, "momentum must be in .0, 1., but is 1.1"),
        (SGDSettings, {"momentum": 0.0, "nesterov": True}, "nesterov needs a momentum above 0, but momentum is 0"),
        (AdamSettings, {"name": "rmsprop"}, "name must be one of adam, adamw, but is rmsprop"),
        (AdamSettings, {"betas": (0.9, 1.5)}, "betas must be in .0, 1., but is 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)


@settings(deadline=None)
@given(st.sampled_from(get_args(Schedule)), st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0, 5), st.data())
def test_the_rate_rises_in_the_warm_up_and_falls_after_it_towards_zero(schedule, steps, warmup, power, data):
    warmup %= steps
    power = power if schedule == "poly" else POWER
    trainer = trainer_of(schedule, steps, warmup, power)
    step = data.draw(st.integers(0, steps - 1))

    factor = trainer.rate_factor(step)

    assert trainer.rate_factor(warmup) == 1
    assert 0 < factor <= 1
    if step < warmup:
        assert factor < trainer.rate_factor(step + 1)
    elif step + 1 < steps:
        assert factor >= trainer.rate_factor(step + 1)


def trainer_of(schedule: Schedule, steps: int, warmup: int = 0, power: float = POWER) -> TrainerSettings:
    augmentation = AugmentationSettings(crop=(8, 8))
    return TrainerSettings(steps=steps, schedule=schedule, warmup_steps=warmup, power=power, augmentation=augmentation)


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("warmup", [0, 4])
def test_schedules_are_those_of_torch(schedule, warmup):
    trainer, steps = trainer_of(schedule, 20, warmup), 20 - warmup
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    after = {
        "poly": partial(lr_scheduler.PolynomialLR, total_iters=steps, power=POWER),
        "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=steps),
        "constant": partial(lr_scheduler.ConstantLR, factor=1.0),
    }[schedule](optimizer)
    if warmup:
        rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        after = lr_scheduler.SequentialLR(optimizer, [rising, after], [warmup])
    rates = []
    for _ in range(trainer.steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        after.step()

    assert [trainer.rate_factor(step) for step in range(trainer.steps)] == pytest.approx(rates, rel=1e-12)


def test_poly_without_warm_up_is_what_it_was_to_the_bit():
    assert [trainer_of("poly", 30, power=1.7).rate_factor(step) for step in range(30)] == [
        (1 - step / 30) ** 1.7 for step in range(30)
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("poly", 10, 10), "warmup_steps must be below steps, 10, but is 10: lower it"),
        (("linear", 10), "schedule must be one of poly, cosine, constant, but is linear"),
        (
            ("cosine", 10, 0, 0.5),
            "power is the exponent of schedule poly, but schedule is cosine and power 0.5: remove power, or set "
            "schedule to poly",
        ),
    ],
)
def test_rates_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        trainer_of(*settings)

    assert str(caught.value) == message
