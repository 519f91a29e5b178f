"""How much arithmetic a step is, counted and not timed, and how fast a device does such work at best."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..models.architectures import build_segmenter
from .distributed import World
from .methods.method import Batch
from .methods.table import build_method
from .recipe import Recipe
from .settings import DTYPES
from .speed import SpeedSettings

_PLAIN = SpeedSettings(channels_last=False, fused_optimizers=False)
_SIDE = {"cuda": 8192, "cpu": 2048}


def flops_of_step(recipe: Recipe, classes: int, ignore_index: int, step: int) -> int:
    """Additions and multiplications, each counted, of the convolutions and matrix products of a step over all workers.

    What `recompute` computes a second time is not counted again. Counted on the meta device: nothing is computed.
    """
    from torch.utils.flop_counter import FlopCounterMode

    trainer = replace(recipe.trainer, speed=_PLAIN)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        segmenter = build_segmenter(recipe.segmenter, classes).to(DTYPES[trainer.precision])
        method = build_method(
            recipe.method, trainer, segmenter, classes=classes, ignore_index=ignore_index, world=World()
        )
        shape = (trainer.micro_batch_size, *trainer.augmentation.crop)
        images = torch.empty(shape[0], 3, *shape[1:], dtype=DTYPES[trainer.precision])
        labels = torch.empty(shape, dtype=torch.int64)
        unlabelled = images.new_empty(trainer.unlabelled_micro_batch_size, *images.shape[1:])
        size = unlabelled.shape[0], *shape[1:]
        wants = method.wants(step)
        batch = Batch(
            images=images,
            labels=labels,
            real_labels=labels if wants.real else None,
            unlabelled=unlabelled if wants.unlabelled else None,
            unlabelled_valid=torch.empty(size, dtype=torch.bool) if wants.unlabelled else None,
            unlabelled_labels=labels.new_empty(size) if wants.unlabelled_labels else None,
            strong=images.new_empty(len(wants.strong), *unlabelled.shape) if wants.strong else None,
            boxes=torch.empty(len(wants.strong), len(unlabelled), 4) if wants.strong else None,
            partners=torch.empty(len(unlabelled), dtype=torch.int64) if wants.partners else None,
            channels=torch.empty(len(unlabelled), dtype=torch.int64) if wants.strong else None,
        )
        with FlopCounterMode(display=False) as counter:
            method.step(step, [batch])
    return trainer.accumulation * counter.get_total_flops()


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product, the best of several."""
    side = _SIDE[device.type]
    random = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=random, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / best_seconds(lambda: a @ b, device)


def best_seconds(program: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of the fastest of several runs of a program on a device."""
    seconds = []
    for _ in range(12):
        _settle(device)
        started = time.perf_counter()
        program()
        _settle(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
