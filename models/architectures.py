"""The table of segmentation networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from .compact import GROUPS, Compact
from .deeplab import Backbone, DeepLabV2
from .settings import ChosenBy, Interval, Settings

RESNET_BLOCKS = {"deeplab_v2_resnet50": (3, 4, 6, 3), "deeplab_v2_resnet101": (3, 4, 23, 3)}

LEAST_SIDE = 8
"""Height and width in pixels of the smallest image that a network reads: of less its strides would leave nothing."""


@dataclass(frozen=True, kw_only=True)
class CompactSettings(Settings):
    """A segmenter of under 1 M parameters that trains on a CPU."""

    architecture: Literal["compact"] = "compact"
    width: Annotated[int, Interval(8, 56)] = 32
    """Channels of the stem, a multiple of 8; the body has twice as many."""
    weights: str | None = None
    """Start weights: a path, or an s3:// address; None: fresh."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % GROUPS:
            raise ValueError(f"width must be a multiple of {GROUPS}, but is {self.width}")


@dataclass(frozen=True, kw_only=True)
class DeepLabSettings(Settings):
    """DeepLab-v2, the paper's segmentation network."""

    architecture: Literal["deeplab_v2_resnet50", "deeplab_v2_resnet101"] = "deeplab_v2_resnet101"
    backbone: Backbone = "caffe"
    """`caffe` for the published DeepLab checkpoints, `torchvision` for its ResNet state dicts. Each has its own
    normalisation; names and shapes are the same, so weights of one load into the other, and are worth little there."""
    branches: Literal[2, 4] = 4
    """How many of the four dilated branches are summed (paper: 4; released code: 2). The others are never trained."""
    batch_norm: Literal["batch", "frozen", "synchronised"] = "batch"
    """Statistics used in training: those of a worker's own share of the batch (running ones updated), the running
    ones, or those of the shares of all workers (GPUs only). Scale and shift are never trained."""
    weights: str | None = None
    """Start weights: a path, or an s3:// address; None: fresh."""


SegmenterSettings = Annotated[CompactSettings | DeepLabSettings, ChosenBy("architecture")]

ARCHITECTURES: dict[str, type[CompactSettings | DeepLabSettings]] = {
    "compact": CompactSettings,
    **dict.fromkeys(RESNET_BLOCKS, DeepLabSettings),
}
"""The settings of each architecture."""


Normalised = Callable[[Tensor], Tensor]
"""Normalises RGB images [N, 3, H, W] in 0...255, of any type, on the device for which it was made."""


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Input of a network: (RGB in 0...255 - mean) / std, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normalised [N, 3, H, W] of a floating type, of RGB images in 0...255 of the same shape and any type."""
        return self.on(images.device, dtype)(images)

    def on(self, device: torch.device, dtype: torch.dtype) -> Normalised:
        """Itself for many images on one device, to which means and spreads are brought once."""
        mean, std = (
            torch.tensor(values, dtype=dtype).view(3, 1, 1).to(device, non_blocking=True)
            for values in (self.mean, self.std)
        )
        # In place on a copy: on a CPU fresh memory costs more than the arithmetic.
        return lambda images: images.to(dtype, copy=True).sub_(mean).div_(std)


CAFFE_MEANS = Normalisation(mean=(122.68, 116.67, 104.01), std=(1.0, 1.0, 1.0))
"""Of the published checkpoints: means of ImageNet, unscaled."""

IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""Of torchvision: means and spreads of ImageNet."""


def normalisation_of(settings: SegmenterSettings) -> Normalisation:
    """How a network reads images: as those of the weights that it starts from were read."""
    match settings:
        case DeepLabSettings(backbone="caffe"):
            return CAFFE_MEANS
        case _:
            return IMAGENET


Segmenter = Compact | DeepLabV2
"""Logits [N, K, H, W] of images [N, 3, H, W]; `head()` are the classifier's parameters."""


def build_segmenter(settings: SegmenterSettings, classes: int) -> Segmenter:
    """The network for a number of classes, with fresh weights from torch's global generator."""
    match settings:
        case CompactSettings():
            return Compact(classes, settings.width)
        case DeepLabSettings():
            blocks = RESNET_BLOCKS[settings.architecture]
            return DeepLabV2(
                classes,
                blocks,
                frozen_batch_norm=settings.batch_norm == "frozen",
                branches=settings.branches,
                backbone=settings.backbone,
            )
