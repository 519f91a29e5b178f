"""The adversarial step against numbers of the published implementation, in float64."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

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
from advseg.trainers.speed import SpeedSettings

HERE = Path(__file__).parent
CASES = json.loads((HERE / "golden_adversarial_step.json").read_text())
CLASSES, SIZE, BATCH_SIZE, STEPS, SEMI_START = 5, 65, 2, 20, 2

_spec = importlib.util.spec_from_file_location("golden_recipe", HERE / "golden_recipe.py")
assert _spec and _spec.loader
recipe = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(recipe)


def fill(network: torch.nn.Module) -> None:
    values = recipe.weights({name: tuple(t.shape) for name, t in network.state_dict().items()})
    network.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=False)


def batch_of(case: str, iteration: int, std: float, device: str) -> Batch:
    drawn = recipe.batch(case, iteration, SIZE, SIZE, BATCH_SIZE, CLASSES, std=std)
    images, labels, unlabelled, truth = (torch.from_numpy(array).to(device) for array in drawn)
    return Batch(
        images=images,
        labels=labels,
        real_labels=truth,
        unlabelled=unlabelled,
        unlabelled_valid=torch.ones_like(labels, dtype=torch.bool),
        unlabelled_labels=torch.full_like(labels, 255),
    )


def method_of(settings: dict, speed: SpeedSettings, device: str, world: World) -> Adversarial:
    knobs = AdversarialSettings(
        semi_start=SEMI_START, threshold=settings["T"], discriminator_optimizer=AdamSettings(lr=1e-4)
    )
    trainer = TrainerSettings(
        steps=STEPS,
        segmenter_optimizer=SGDSettings(lr=settings.get("lr", 2.5e-4)),
        augmentation=AugmentationSettings(crop=(SIZE, SIZE)),
        speed=speed,
    )
    segmenter = DeepLabV2(CLASSES, (1, 1, 1, 1), frozen_batch_norm=settings.get("bn") == "frozen").double()
    discriminator = Discriminator(CLASSES, (64, 128, 256, 512), "strided").double()
    fill(segmenter)
    fill(discriminator)
    return Adversarial(knobs, trainer, segmenter.to(device), discriminator.to(device), ignore_index=255, world=world)


OFF = {"channels_last": False, "fused_optimizers": False}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("speed", [OFF, {}])
def test_the_step_is_the_published_one(case, speed):
    assert_published(case, speed, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("speed", [OFF, {}, {"graphs": True}])
def test_the_step_on_a_gpu_is_the_published_one(case, speed):
    assert_published(case, speed, "cuda")


@pytest.mark.gpu
def test_two_workers_on_one_gpu_make_the_published_step(tmp_path):
    """Their messages go by gloo: NCCL refuses two on one GPU."""
    command = [sys.executable, str(HERE / "golden_workers.py"), str(tmp_path), "cuda"]
    workers = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    try:
        assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()

    found = json.loads((tmp_path / "found.json").read_text())
    for ours, expected in zip(found, CASES["batch_norm_frozen"]["iterations"], strict=False):
        assert_figures(ours, expected)


def assert_published(case: str, speed: dict, device: str) -> None:
    settings, golden = CASES[case]["settings"], CASES[case]
    std = settings.get("img_std", 50.0)
    method = method_of(settings, SpeedSettings(**speed), device, World())

    for iteration, expected in enumerate(golden["iterations"]):
        method.step(iteration, [batch_of(case, iteration, std, device)])
        assert_figures(method.meter.take(), expected)

    final = golden["final"]
    assert norm_of(method.segmenter) == pytest.approx(final["param_norm_g"], rel=1e-9)
    assert norm_of(method.discriminator) == pytest.approx(final["param_norm_d"], rel=1e-9)
    assert method.segmenter.layer5.conv2d_list[0].bias.tolist() == pytest.approx(final["head_bias"], rel=1e-9)
    assert method.discriminator.classifier.bias.tolist() == pytest.approx(final["d_bias"], rel=1e-9)
    logits = method.segmenter.eval()(batch_of(case, 999, std, device).images).detach()
    assert logits.sum().item() == pytest.approx(final["eval_logits_sum"], rel=1e-9)
    assert logits.abs().sum().item() == pytest.approx(final["eval_logits_abs"], rel=1e-9)
    assert logits[0, :, 0, 0].tolist() == pytest.approx(final["eval_logits_corner"], rel=1e-9)


def assert_figures(got: dict, expected: dict) -> None:
    ours = {
        "loss_seg": got["loss/ce"],
        "loss_adv": got["loss/adv"],
        "loss_semi": got.get("loss/semi", 0.0),
        "loss_semi_adv": got["loss/semi_adv"],
        "loss_d": got["loss/d"],
        "selected": got.get("selected/share"),
        "grad_norm_g": got["gradient_norm/segmenter"],
        "grad_norm_d": got["gradient_norm/discriminator"],
    }
    assert (ours["selected"] is None) == (expected["selected"] is None)
    present = {name: value for name, value in expected.items() if value is not None}
    assert {name: ours[name] for name in present} == pytest.approx(present, rel=1e-9)


def norm_of(network: torch.nn.Module) -> float:
    return torch.nn.utils.get_total_norm(p.detach() for p in network.parameters()).item()
