"""Every fast path against the plain one: equal to rounding where it says so, near where it changes results."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from advseg.models.architectures import CompactSettings, DeepLabSettings
from advseg.models.compact import Compact
from advseg.models.deeplab_v2 import DeepLabV2
from advseg.models.discriminator import Discriminator, DiscriminatorSettings
from advseg.models.inference import EvaluationSettings, predict_probabilities
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.distributed import World
from advseg.trainers.errors import UserError
from advseg.trainers.loop import Training
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.adversarial_step import Adversarial
from advseg.trainers.methods.method import Batch
from advseg.trainers.methods.supervised import Supervised
from advseg.trainers.optimizers import AdamSettings
from advseg.trainers.recipe import Recipe
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings, compiled

CLASSES, SIDE, IGNORE = 4, 24, 255
PLAIN = SpeedSettings(channels_last=False, fused_optimizers=False)
METHOD = AdversarialSettings(
    lambda_adv=0.3, lambda_semi_adv=0.2, lambda_semi=0.4, threshold=0.5, semi_start=2, semi_adv_start=1
)
TRAINER = TrainerSettings(
    steps=10,
    segmenter_optimizer=AdamSettings(name="adamw", weight_decay=0.01),
    augmentation=AugmentationSettings(crop=(SIDE, SIDE)),
)


def batch_of(step: int, dtype: torch.dtype) -> Batch:
    rng = torch.Generator().manual_seed(step)
    images = [torch.randn(2, 3, SIDE, SIDE, generator=rng, dtype=torch.float64).to(dtype) for _ in range(2)]
    maps = [torch.randint(0, CLASSES, (2, SIDE, SIDE), generator=rng) for _ in range(3)]
    valid = torch.rand(2, SIDE, SIDE, generator=rng) < 0.9
    return Batch(
        images=images[0],
        labels=maps[0].masked_fill(~valid, IGNORE),
        real_labels=maps[1],
        unlabelled=images[1],
        unlabelled_valid=valid,
        unlabelled_labels=maps[2],
    )


def trained(
    speed: SpeedSettings,
    network: str = "compact",
    dtype: torch.dtype = torch.float64,
    steps: int = 4,
    settings: AdversarialSettings = METHOD,
):
    """Weights, statistics and metrics after a few steps, each of which takes another way through the losses."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(CLASSES, 8) if network == "compact" else DeepLabV2(CLASSES, (1, 1, 1, 1), False)
        discriminator = Discriminator(CLASSES, (4, 8), "dense")
    trainer = replace(TRAINER, speed=speed)
    method = Adversarial(
        settings, trainer, segmenter.to(dtype), discriminator.to(dtype), ignore_index=IGNORE, world=World()
    )
    for step in range(steps):
        method.step(step, [batch_of(step, dtype)])
    return {**segmenter.state_dict(), **discriminator.state_dict()}, method.meter.take()


@pytest.fixture(scope="module")
def plain(program):
    with program.small_deeplab():
        return {network: trained(PLAIN, network) for network in ("compact", "deeplab")}


@pytest.mark.parametrize(
    ("network", "switch"),
    [
        *(("compact", switch) for switch in ("channels_last", "fused_optimizers", "recompute", "joint_forward")),
        *(("deeplab", switch) for switch in ("channels_last", "fused_optimizers", "recompute")),
    ],
)
def test_a_switch_changes_nothing_but_rounding(program, plain, network, switch):
    with program.small_deeplab():
        weights, metrics = trained(replace(PLAIN, **{switch: True}), network)

    assert metrics == pytest.approx(plain[network][1], rel=1e-9)
    for name, value in plain[network][0].items():
        torch.testing.assert_close(weights[name], value, rtol=1e-9, atol=1e-9)


def test_recomputing_computes_again():
    """As many more convolutions as the blocks have, or the switch would do nothing."""
    calls = {}
    for on in (False, True):
        network = Compact(CLASSES, 8)
        trainer = replace(TRAINER, speed=SpeedSettings(recompute=on))
        method = Supervised(trainer, network, ignore_index=IGNORE, world=World())
        count = []
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda *_, count=count: count.append(1))
        method.step(0, [batch_of(0, torch.float32)])
        calls[on] = len(count)

    assert calls[True] - calls[False] == 2 * len(Compact.body_dilations)


def test_bfloat16_is_near_and_not_the_same():
    weights, metrics = trained(PLAIN, dtype=torch.float32, steps=1)
    fast_weights, fast_metrics = trained(replace(PLAIN, autocast="bfloat16"), dtype=torch.float32, steps=1)

    assert fast_metrics != metrics
    # 8 significant bits are a relative error of 0.4 %, and there are ten layers.
    assert fast_metrics == pytest.approx(metrics, rel=0.05)
    assert all(value.dtype == weights[name].dtype for name, value in fast_weights.items())


def test_a_compiled_step_is_the_same_to_rounding():
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("there is no C++ compiler")
    settings = replace(METHOD, semi_start=0, semi_adv_start=0)
    weights, metrics = trained(PLAIN, steps=2, settings=settings)

    fast_weights, fast_metrics = trained(replace(PLAIN, compile=True), steps=2, settings=settings)

    assert fast_metrics == pytest.approx(metrics, rel=1e-9)
    for name, value in weights.items():
        torch.testing.assert_close(fast_weights[name], value, rtol=1e-9, atol=1e-9)


def test_an_evaluation_of_a_network_whose_step_is_compiled_compiles_nothing(monkeypatch):
    graphs = []

    def keep(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    network = Compact(CLASSES, 8)
    step = compiled(network, torch.device("cuda"))
    images = torch.zeros(2, 3, SIDE, SIDE)
    step(images)
    assert graphs
    graphs.clear()

    with torch.inference_mode():
        network.eval()
        for height in (SIDE, 32, 40):
            predict_probabilities(network, torch.zeros(1, 3, height, 48), EvaluationSettings())
    network.train()
    step(images)

    assert not graphs


def test_compiling_without_a_compiler_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(os.environ, "PATH", "")

    with pytest.raises(UserError, match=r"speed\.compile needs a C\+\+ compiler on a CPU: install g\+\+"):
        compiled(Compact(CLASSES, 8), torch.device("cpu"))


def recipe_of(segmenter=CompactSettings(width=8), precision="float32", **speed) -> Recipe:  # noqa: B008
    trainer = TrainerSettings(
        steps=10,
        batch_size=4,
        augmentation=AugmentationSettings(crop=(SIDE, SIDE)),
        precision=precision,
        speed=SpeedSettings(**speed),
    )
    discriminator = DiscriminatorSettings(widths=(4, 8), classifier="dense")
    method = AdversarialSettings(semi_start=0, discriminator=discriminator)
    return Recipe(segmenter=segmenter, method=method, trainer=trainer)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SpeedSettings(compile=True, recompute=True), "compile and recompute exclude each other"),
        (lambda: SpeedSettings(autocast="float16"), "autocast must be one of bfloat16, but is float16"),
        (lambda: SpeedSettings(prefetch=65), r"prefetch must be in \[0, 64\], but is 65"),
        (
            lambda: recipe_of(precision="float64", autocast="bfloat16"),
            "speed.autocast needs precision float32, but precision is float64",
        ),
        (
            lambda: recipe_of(DeepLabSettings(), joint_forward=True),
            "joint_forward would mix .* where model.batch_norm is batch: set it to frozen, or joint_forward to false",
        ),
    ],
)
def test_switches_that_do_not_go_together_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("size", "device"), [(1, "cpu"), (2, "cuda")])
def test_graphs_without_a_gpu_or_for_several_workers_are_refused(shapes, tmp_path, size, device):
    with pytest.raises(
        UserError, match=f"graphs are for one worker on a GPU, and this is one of {size} .* {device}: set"
    ):
        Training(recipe_of(graphs=True), shapes, tmp_path, world=World(size=size), device=torch.device(device))


def test_frozen_batch_norm_may_see_both_batches_at_once():
    assert recipe_of(DeepLabSettings(batch_norm="frozen"), joint_forward=True).trainer.speed.joint_forward
