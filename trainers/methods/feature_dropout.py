"""Complementary channel dropout of UniMatch V2 (model/semseg/dpt.py): each view keeps what the other one loses."""

import torch
from torch import Tensor

from ...models.segmenter import Segmenter


def factors(keys: Tensor, other: Tensor, channels: int) -> Tensor:
    """By what each of so many channels of each image counts: [N, channels] of 0 and 2, and of 1 where the key is -1.

    keys int64 [N]; images of the same key lose the same half, or the other one where other, bool [N], is true. Which
    half it is follows from the key alone, by integers, on any device.
    """
    places = torch.arange(channels, device=keys.device)
    half = _mixed(_mixed(keys).unsqueeze(1) + places) & 1
    return torch.where(keys.unsqueeze(1) < 0, 1, 2 * (half ^ other.unsqueeze(1).long()))


def _mixed(numbers: Tensor) -> Tensor:
    """Integers of 32 bits that depend on every bit of the given ones (lowbias32, Wellons, 2018)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        numbers = ((numbers ^ (numbers >> shift)) * factor) & 0xFFFFFFFF
    return numbers ^ (numbers >> 16)


def forward(segmenter: Segmenter, keys: Tensor, other: Tensor, images: Tensor) -> Tensor:
    """Logits [N, K, H, W] of images [N, 3, H, W], of whose features some channels are dropped: see `factors`."""
    features = segmenter.encode(images)
    kept = (factors(keys, other, maps.shape[1]).to(maps.dtype) for maps in features)
    return segmenter.decode(
        tuple(maps * each.unsqueeze(-1).unsqueeze(-1) for maps, each in zip(features, kept, strict=True)), images
    )
