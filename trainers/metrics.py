"""What a confusion matrix says of a segmentation."""

from collections.abc import Sequence

import torch
from torch import Tensor


def confusion(predicted: Tensor, truth: Tensor, classes: int, ignore_index: int) -> Tensor:
    """Pixel counts int64 [K, K], truth by row and prediction by column, of two maps [..., H, W] of class ids.

    The maps are of any types of whole numbers. Pixels whose truth is the ignore index do not count.
    """
    # Ignored pixels have a cell of their own, and cells are counted by adding: to leave pixels out, or to count by
    # torch.bincount, would wait for the device.
    ignored = classes * classes
    truth = truth.long()
    cells = torch.where(truth == ignore_index, ignored, truth * classes + predicted.long()).flatten()
    counts = torch.zeros(ignored + 1, dtype=torch.int64, device=cells.device)
    counts.index_add_(0, cells, torch.ones_like(counts[:1]).expand(len(cells)))
    return counts[:ignored].view(classes, classes)


def class_iou(matrix: Tensor, ignore_index: int) -> list[float | None]:
    """The intersection over union of each class in percent, of a confusion matrix [K, K].

    None for a class that is absent from both truth and prediction, and for one whose id is the ignore index:
    no pixel can be truly of it.
    """
    intersection = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - intersection
    return [
        100 * right / either if either and id != ignore_index else None
        for id, (right, either) in enumerate(zip(intersection.tolist(), union.tolist(), strict=True))
    ]


def class_accuracy(matrix: Tensor) -> list[float | None]:
    """The share of each class's pixels that were found, in percent; None for a class absent from the truth."""
    pairs = zip(matrix.diagonal().tolist(), matrix.sum(1).tolist(), strict=True)
    return [100 * right / true if true else None for right, true in pairs]


def pixel_accuracy(matrix: Tensor) -> float:
    """The share of right pixels in percent."""
    return 100 * matrix.diagonal().sum().item() / max(matrix.sum().item(), 1)


def mean(values: Sequence[float | None]) -> float:
    """The mean of the values that there are; 0 without any."""
    present = [value for value in values if value is not None]
    return sum(present) / max(len(present), 1)


def metrics_of(matrix: Tensor, classes: Sequence[str], ignore_index: int) -> dict[str, float]:
    """Figures in percent of the confusion matrix of a whole validation set.

    `val/miou` and `val/iou/<class>`, `val/pixel_accuracy`, and `val/class_accuracy`, which is the mean over
    classes. A class without an IoU or accuracy is left out and does not count in the means.
    """
    iou = class_iou(matrix, ignore_index)
    each = {f"val/iou/{name}": value for name, value in zip(classes, iou, strict=True) if value is not None}
    return {
        "val/miou": mean(iou),
        **each,
        "val/pixel_accuracy": pixel_accuracy(matrix),
        "val/class_accuracy": mean(class_accuracy(matrix)),
    }
