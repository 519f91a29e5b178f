"""Validation: one confusion matrix over whole images at their own size, each image counted once."""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import numpy as np
import torch

from ..models.architectures import Normalisation, Segmenter
from .data.dataset import Dataset, Sample
from .data.images import read_image, read_mask
from .distributed import World
from .metrics import confusion, iou_metrics

_GROUP = 16
"""Images that go through the network at once where neighbours in the list have the same size."""


@torch.inference_mode()
def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    normalisation: Normalisation,
    *,
    world: World,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, float]:
    """`val/miou` and `val/iou/<class>` in percent. Every worker evaluates its share and gets the whole result."""
    classes = len(dataset.classes)
    matrix = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    mine = [dataset.validation[i] for i in world.share(len(dataset.validation))]
    segmenter.eval()
    for images, masks in _groups(mine):
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(device, dtype)
        predicted = segmenter(normalisation(pixels)).argmax(1)
        matrix += confusion(predicted, torch.from_numpy(masks).to(device), classes, dataset.ignore_index)
    segmenter.train()
    return iou_metrics(world.total(matrix), dataset.classes)


def _groups(samples: Sequence[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images [n, H, W, 3] and masks [n, H, W] of neighbours of equal size, few at a time."""
    pairs = ((read_image(s.image), read_mask(s.mask)) for s in samples if s.mask)
    for _, same_size in groupby(pairs, key=lambda pair: pair[0].shape):
        while batch := list(islice(same_size, _GROUP)):
            yield np.stack([image for image, _ in batch]), np.stack([mask for _, mask in batch])
