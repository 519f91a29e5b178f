"""Validation: one confusion matrix over whole images at their own size, each image counted once."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..models.architectures import Normalisation
from ..models.inference import (
    PIXELS_AT_ONCE,
    EvaluationSettings,
    pixels_of,
    predict_averaged,
    predict_probabilities,
    scaled_sizes,
)
from ..models.resize import Resize, Size, size_of
from ..models.segmenter import Segmenter
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
_WAITING = 16 * PIXELS_AT_ONCE
"""Pixels of images that were read and wait for others of their size."""
_Pair = tuple[np.ndarray, np.ndarray]
"""An image uint8 [H, W, 3] and its mask [H, W]."""


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
    # In one piece, so that workers exchange it in one message, and the host waits for the device once.
    counts = torch.zeros(1 + len(predictors) * classes**2, dtype=torch.int64, device=device)
    counts[0] += len(samples)
    matrices = counts[1:].view(-1, classes, classes)
    normalised = normalisation.on(device, dtype)
    was_training = segmenter.training
    segmenter.eval()

    with (
        closing(ahead(lambda place: _pair(samples[place]), range(len(samples)), speed.prefetch)) as pairs,
        underway("images evaluated", len(samples)) as done,
    ):
        seen = 0
        done(seen)
        for group in grouped(pairs, resize, settings):
            images, masks = (_stacked(arrays, device) for arrays in zip(*group, strict=True))
            pixels = pixels_of(images, normalised, speed.memory_format)
            for matrix, predict in zip(matrices, predictors, strict=True):
                with speed.precision(device):
                    predicted = argmax(predict(segmenter, pixels, settings, resize=resize))
                matrix += confusion(predicted, masks, classes, ignored)
            tick()
            done(seen := seen + len(group))
    segmenter.train(was_training)
    counts = world.total(counts).cpu()
    headline, *averaged = counts[1:].view(-1, classes, classes)
    metrics = metrics_of(headline, dataset.classes, ignored)
    for matrix in averaged:
        metrics["val/miou_multiscale"] = mean(class_iou(matrix, ignored))
    return Evaluation(matrix=headline, images=int(counts[0]), metrics=metrics)


def judged_by(settings: EvaluationSettings, dataset: Dataset) -> int | None:
    """By how many of the validation images; None: by all."""
    some = settings.images
    return None if some is None or some >= len(dataset.validation) else some


def evenly(count: int, wanted: int | None) -> Sequence[int]:
    """Which of a list are taken if some are wanted: the first of each of so many equal stretches; None wants all."""
    if wanted is None or wanted >= count:
        return range(count)
    return [place * count // wanted for place in range(wanted)]


def grouped(pairs: Iterable[_Pair], resize: Resize | None, settings: EvaluationSettings) -> Iterator[list[_Pair]]:
    """Images and masks that are judged together: few, of one size, though others came between them.

    Their pixels are few as they are and at every size at which the network reads them, by `resize` and the scales of
    the settings. Those that wait for others of their size have no more than `_WAITING` pixels together.
    """
    waiting: dict[Size, list[_Pair]] = {}
    for image, mask in pairs:
        height, width, _ = image.shape
        size = height, width
        group = waiting.setdefault(size, [])
        group.append((image, mask))
        read = size_of(resize, size)
        most = max(map(prod, (size, read, *scaled_sizes(settings, read))))
        if len(group) == min(_GROUP, max(1, PIXELS_AT_ONCE // most)):
            yield waiting.pop(size)
        while sum(mask.size for group in waiting.values() for _, mask in group) > _WAITING:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def _pair(sample: Sample) -> _Pair:
    mask = sample.read_mask()
    assert mask is not None
    return sample.read_image(), mask


def _stacked(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Arrays of one shape on a device, or on their way there."""
    together = torch.from_numpy(np.stack(arrays))
    return (together.pin_memory() if device.type == "cuda" else together).to(device, non_blocking=True)
