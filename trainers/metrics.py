"""Intersection over union from one confusion matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor


def confusion(predicted: Tensor, truth: Tensor, classes: int, ignore_index: int) -> Tensor:
    """Pixel counts int64 [K, K], truth by row and prediction by column, of two maps [..., H, W] of class ids.

    Pixels whose truth is the ignore index do not count.
    """
    known = truth != ignore_index
    cells = truth[known].long() * classes + predicted[known].long()
    return torch.bincount(cells, minlength=classes * classes).view(classes, classes)


def iou_metrics(matrix: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """`val/miou` and `val/iou/<class>` in percent, of the confusion matrix of a whole validation set.

    A class absent from both truth and prediction has no IoU and does not count in the mean.
    """
    intersection = matrix.diagonal().double()
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    present = union > 0
    iou = 100 * intersection[present] / union[present]
    names = [name for name, here in zip(classes, present.tolist(), strict=True) if here]
    metrics = {f"val/iou/{name}": value for name, value in zip(names, iou.tolist(), strict=True)}
    return {"val/miou": iou.mean().item() if names else 0.0, **metrics}
