"""Validation: one confusion matrix over whole images at their own size, each image counted once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

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
from ..models.resize import Resize
from .data.dataset import Dataset
from .data.samples import Sample
from .distributed import World
from .losses import argmax
from .metrics import class_iou, confusion, mean, metrics_of
from .progress import progress
from .speed import SpeedSettings

_GROUP = 16
"""Images that are read together where neighbours in the list have the same size, if they have few pixels."""


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
    matrices = torch.zeros(2 if settings.averages else 1, classes, classes, dtype=torch.int64, device=device)
    images = torch.zeros((), dtype=torch.int64, device=device)
    predictors = (predict_probabilities, predict_averaged)[: len(matrices)]
    was_training = segmenter.training
    segmenter.eval()
    judged = evenly(len(dataset.validation), settings.images)
    samples = [dataset.validation[judged[i]] for i in world.share(len(judged))]
    for pictures, masks in _groups(progress(samples, len(samples), "images evaluated")):
        pixels = pixels_of(pictures, normalisation, device, dtype, speed.memory_format)
        truth = torch.from_numpy(masks).to(device)
        for matrix, predict in zip(matrices, predictors, strict=True):
            with speed.precision(device):
                predicted = argmax(predict(segmenter, pixels, settings, resize=resize))
            matrix += confusion(predicted, truth, classes, ignored)
        images += len(pictures)
    segmenter.train(was_training)
    headline, *averaged = world.total(matrices).cpu()
    metrics = metrics_of(headline, dataset.classes, ignored)
    for matrix in averaged:
        metrics["val/miou_multiscale"] = mean(class_iou(matrix, ignored))
    return Evaluation(matrix=headline, images=int(world.total(images)), metrics=metrics)


def evenly(count: int, wanted: int | None) -> Sequence[int]:
    """Which of a list are taken if some are wanted: the first of each of so many equal stretches; None wants all."""
    if wanted is None or wanted >= count:
        return range(count)
    return [place * count // wanted for place in range(wanted)]


def _groups(samples: Iterable[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images uint8 [n, H, W, 3] and masks [n, H, W] of neighbours of equal size, few at a time."""
    pairs = ((s.read_image(), mask) for s in samples if (mask := s.read_mask()) is not None)
    for (height, width, _), same_size in groupby(pairs, key=lambda pair: pair[0].shape):
        together = min(_GROUP, max(1, PIXELS_AT_ONCE // (height * width)))
        while batch := list(islice(same_size, together)):
            yield np.stack([image for image, _ in batch]), np.stack([mask for _, mask in batch])
