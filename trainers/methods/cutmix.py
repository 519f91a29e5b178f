"""CutMix (Yun et al., 2019): a box of each image shows another one of its batch."""

import torch
from torch import Tensor


def inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie in the box of their map: bool [N, height, width].

    boxes [N, 4] are top, left, bottom and right; the last two lie just outside, so where all are 0 nothing is inside.
    """
    top, left, bottom, right = (side.unsqueeze(1) for side in boxes.unbind(1))
    rows, columns = (torch.arange(size, device=boxes.device) for size in (height, width))
    return ((rows >= top) & (rows < bottom)).unsqueeze(2) & ((columns >= left) & (columns < right)).unsqueeze(1)


def mixed(maps: Tensor, partners: Tensor | None, boxed: Tensor) -> Tensor:
    """The first maps of [M, ..., H, W], as many as partners; where boxed [N, H, W] is true, each shows its partner.

    partners int64 [N] says which of all maps that is; None mixes nothing.
    """
    if partners is None:
        return maps
    if maps.dim() > boxed.dim():
        boxed = boxed.unsqueeze(1)
    return torch.where(boxed, maps.index_select(0, partners), maps[: len(partners)])
