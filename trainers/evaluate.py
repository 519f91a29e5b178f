"""Validation: one confusion matrix over whole images at their own size, each image counted once."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..models.architectures import Normalisation, Segmenter
from ..models.inference import (
    PIXELS_AT_ONCE,
    EvaluationSettings,
    pixels_of,
    predict_averaged,
    predict_probabilities,
)
from ..models.resize import Resize, Size
from .ahead import ahead
from .data.dataset import Dataset
from .data.samples import Sample
from .distributed import World
from .losses import argmax
from .metrics import class_iou, confusion, mean, metrics_of
from .progress import tick, underway
from .speed import SpeedSettings

_GROUP = 16
"""Images of one size that are judged together, if they have few pixels."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What all workers together found on a validation set."""

    matrix: Tensor = field(repr=False, compare=False)
    """Confusion matrix int64 [K, K] on the CPU, truth by row: pixels of all images, without ignored ones."""
    images: int
    """How many images it counts."""
    metrics: dict[str, float]
    """`metrics_of` the matrix, and `val/miou_multiscale` where settings ask for scales or mirroring."""


@torch.inference_mode()
def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    normalisation: Normalisation,
    *,
    settings: EvaluationSettings,
    resize: Resize | None,
    world: World,
    device: torch.device,
    dtype: torch.dtype,
    speed: SpeedSettings,
) -> Evaluation:
    """Judge a segmenter by the validation images, against masks at their own size.

    Every worker evaluates its share, which may be empty, and gets the whole result. The headline, `val/miou`,
    is always of one scale and of images as they are. `resize` is the size at which the network reads them.
    """
    classes, ignored = len(dataset.classes), dataset.ignore_index
    predictors = (predict_probabilities, predict_averaged) if settings.averages else (predict_probabilities,)
    judged = evenly(len(dataset.validation), settings.images)
    samples = [s for i in world.share(len(judged)) if (s := dataset.validation[judged[i]]).has_mask]
    groups = grouped([sample.read_size() for sample in samples])
    # In one piece, so that workers exchange it in one message, and the host waits for the device once.
    counts = torch.zeros(1 + len(predictors) * classes**2, dtype=torch.int64, device=device)
    counts[0] += len(samples)
    matrices = counts[1:].view(-1, classes, classes)
    normalised = normalisation.on(device, dtype)
    was_training = segmenter.training
    segmenter.eval()

    def read(group: int) -> tuple[Tensor, Tensor]:
        return _read([samples[place] for place in groups[group]], pinned=device.type == "cuda")

    with (
        closing(ahead(read, range(len(groups)), speed.prefetch)) as readings,
        underway("images evaluated", len(samples)) as done,
    ):
        seen = 0
        done(seen)
        for pictures, masks in readings:
            pixels = pixels_of(pictures.to(device, non_blocking=True), normalised, speed.memory_format)
            truth = masks.to(device, non_blocking=True)
            for matrix, predict in zip(matrices, predictors, strict=True):
                with speed.precision(device):
                    predicted = argmax(predict(segmenter, pixels, settings, resize=resize))
                matrix += confusion(predicted, truth, classes, ignored)
            tick()
            done(seen := seen + len(pictures))
    segmenter.train(was_training)
    counts = world.total(counts).cpu()
    headline, *averaged = counts[1:].view(-1, classes, classes)
    metrics = metrics_of(headline, dataset.classes, ignored)
    for matrix in averaged:
        metrics["val/miou_multiscale"] = mean(class_iou(matrix, ignored))
    return Evaluation(matrix=headline, images=int(counts[0]), metrics=metrics)


def evenly(count: int, wanted: int | None) -> Sequence[int]:
    """Which of a list are taken if some are wanted: the first of each of so many equal stretches; None wants all."""
    if wanted is None or wanted >= count:
        return range(count)
    return [place * count // wanted for place in range(wanted)]


def grouped(sizes: Sequence[Size]) -> list[list[int]]:
    """Places of images of one height and width that are judged together, in the order of the first of each."""
    groups: list[list[int]] = []
    open_groups: dict[Size, list[int]] = {}
    for place, size in enumerate(sizes):
        together = min(_GROUP, max(1, PIXELS_AT_ONCE // (size[0] * size[1])))
        group = open_groups.get(size)
        if group is None or len(group) == together:
            groups.append(group := [])
            open_groups[size] = group
        group.append(place)
    return groups


def _read(samples: Sequence[Sample], *, pinned: bool) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, H, W, 3] of one size and their masks [N, H, W], in memory from which a device may copy."""
    images, masks = zip(*((sample.read_image(), sample.read_mask()) for sample in samples), strict=True)
    both = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))
    return (both[0].pin_memory(), both[1].pin_memory()) if pinned else both
