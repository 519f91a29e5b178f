"""Bilinear upsampling with aligned corners, fast on every device."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def upsampled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [N, C, h, w] at a height and width, bilinear with aligned corners, in their own precision."""
    if maps.device.type != "cuda":
        return F.interpolate(maps, list(size), mode="bilinear", align_corners=True)
    return by_matrices(maps, size)


def by_matrices(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The same as two matrix products, whose gradient is two more: torch's kernel adds it up pixel by pixel.

    On a GPU that takes forty times as long as to read the gradient, and sums in another order each time.
    """
    with torch.autocast(maps.device.type, enabled=False):
        rows, columns = (_weights(new, old, maps) for new, old in zip(size, maps.shape[-2:], strict=True))
        return rows @ (maps.contiguous() @ columns.T)


def _weights(new: int, old: int, like: Tensor) -> Tensor:
    """[new, old]: the share of each old pixel in each new one, which falls off linearly from where it lies."""
    places = torch.arange(new, device=like.device, dtype=torch.float64) * ((old - 1) / max(new - 1, 1))
    distances = places.unsqueeze(1) - torch.arange(old, device=like.device)
    return (1 - distances.abs()).clamp(min=0).to(like.dtype)
