"""The table of segmentation networks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from .compact import GROUPS, Compact
from .deeplab import DeepLabV2
from .settings import ChosenBy, Interval, Settings

RESNET_BLOCKS = {"deeplab_v2_resnet50": (3, 4, 6, 3), "deeplab_v2_resnet101": (3, 4, 23, 3)}


@dataclass(frozen=True, kw_only=True)
class CompactSettings(Settings):
    """A segmenter of under 1 M parameters that trains on a CPU."""

    architecture: Literal["compact"] = "compact"
    width: Annotated[int, Interval(8, 56)] = 32
    """Channels of the stem, a multiple of 8; the body has twice as many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % GROUPS:
            raise ValueError(f"width must be a multiple of {GROUPS}, but is {self.width}")


@dataclass(frozen=True, kw_only=True)
class DeepLabSettings(Settings):
    """DeepLab-v2, the paper's segmentation network."""

    architecture: Literal["deeplab_v2_resnet50", "deeplab_v2_resnet101"] = "deeplab_v2_resnet101"
    batch_norm: Literal["batch", "frozen"] = "batch"
    """Statistics used in training: the batch's own (running ones updated) or the running ones."""


SegmenterSettings = Annotated[CompactSettings | DeepLabSettings, ChosenBy("architecture")]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Input of a network: (RGB in 0...255 - mean) / std, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> Tensor:
        """Floating-point [N, 3, H, W] of RGB images in 0...255 of the same shape."""
        mean = images.new_tensor(self.mean).view(3, 1, 1)
        std = images.new_tensor(self.std).view(3, 1, 1)
        return (images - mean) / std


CAFFE_MEANS = Normalisation(mean=(122.68, 116.67, 104.01), std=(1.0, 1.0, 1.0))
"""Of the published checkpoints: means of ImageNet, unscaled."""

IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))

NORMALISATIONS: dict[str, Normalisation] = {
    "compact": IMAGENET,
    "deeplab_v2_resnet50": CAFFE_MEANS,
    "deeplab_v2_resnet101": CAFFE_MEANS,
}


Segmenter = Compact | DeepLabV2
"""Logits [N, K, H, W] of images [N, 3, H, W]; `head()` are the classifier's parameters."""


def build_segmenter(settings: SegmenterSettings, classes: int) -> Segmenter:
    """The network for a number of classes, with fresh weights from torch's global generator."""
    match settings:
        case CompactSettings():
            return Compact(classes, settings.width)
        case DeepLabSettings():
            blocks = RESNET_BLOCKS[settings.architecture]
            return DeepLabV2(classes, blocks, frozen_batch_norm=settings.batch_norm == "frozen")
