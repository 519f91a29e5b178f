"""DeepLab-v3+ on a dilated ResNet (Chen et al., 2018)."""

from typing import Literal

import torch
from torch import Tensor, nn

from .resnet import Backbone, BatchNorm, Blocks, DilatedResNet
from .segmenter import Features
from .upsampling import upsampled

OutputStride = Literal[8, 16]
RATES: dict[OutputStride, tuple[int, int, int]] = {16: (6, 12, 18), 8: (12, 24, 36)}
"""Dilations of the pyramid's 3x3 convolutions, by the stride of the grid: the same reach in pixels of the image."""

_WIDTH = 256
_LOW_LEVEL = 48


class Unit(nn.Sequential):
    """Convolution of a grid that stays as it is, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, size: int, *, dilation: int = 1) -> None:
        padding = dilation * (size // 2)
        super().__init__(
            nn.Conv2d(channels, out, size, padding=padding, dilation=dilation, bias=False),
            BatchNorm(out),
            nn.ReLU(inplace=True),
        )


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: each pixel beside what lies around it, near and far, and in the whole image."""

    def __init__(self, channels: int, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [Unit(channels, _WIDTH, 1), *(Unit(channels, _WIDTH, 3, dilation=rate) for rate in rates)]
        )
        self.image = Unit(channels, _WIDTH, 1)
        self.project = Unit((len(self.branches) + 1) * _WIDTH, _WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, 256, h, w]."""
        image = self.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.project(torch.cat([*(branch(x) for branch in self.branches), image], 1))


class DeepLabV3Plus(DilatedResNet):
    """Image [N, 3, H, W] to logits [N, K, H, W], upsampled from stride 4, bilinear with aligned corners.

    Its convolutions are plain, not separable, and nothing is dropped out, as in most of the field of semi-supervised
    segmentation (UniMatch, Yang et al., 2023). Scale and shift of batch norm learn.
    """

    head = ("pyramid", "low_level", "fuse", "classifier")

    def __init__(
        self,
        classes: int,
        blocks: Blocks,
        frozen_batch_norm: bool,
        *,
        output_stride: OutputStride = 16,
        backbone: Backbone = "torchvision",
    ) -> None:
        super().__init__(blocks, stride=output_stride, backbone=backbone, frozen_batch_norm=frozen_batch_norm)
        self.pyramid = Pyramid(2048, RATES[output_stride])
        self.low_level = Unit(256, _LOW_LEVEL, 1)
        self.fuse = nn.Sequential(Unit(_WIDTH + _LOW_LEVEL, _WIDTH, 3), Unit(_WIDTH, _WIDTH, 3))
        self.classifier = nn.Conv2d(_WIDTH, classes, 1)
        self.initialise()

    def decode(self, features: Features, images: Tensor) -> Tensor:
        """The pyramid of the last stage's features, refined by the first one's and upsampled."""
        fine, coarse = features
        context = upsampled(self.pyramid(coarse), fine.shape[-2:])
        x = self.classifier(self.fuse(torch.cat([context, self.low_level(fine)], 1)))
        return upsampled(x.to(images.dtype), images.shape[-2:])
