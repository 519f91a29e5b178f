"""A small segmenter for CPUs: strided stem, dilated residual body, summed dilated branches."""

from functools import reduce
from operator import add

from torch import Tensor, nn

from .segmenter import Features, Segmenter
from .upsampling import upsampled

GROUPS = 8


class Unit(nn.Sequential):
    """3x3 convolution, group norm, ReLU. Group norm keeps an image's output independent of its batch."""

    def __init__(self, channels: int, out: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, out, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
            nn.GroupNorm(GROUPS, out),
            nn.ReLU(inplace=True),
        )


class Compact(Segmenter):
    """Image [N, 3, H, W] to logits [N, K, H, W], upsampled from stride 2, bilinear with aligned corners.

    `width` is the number of channels at stride 2, a multiple of 8; the body at stride 4 has twice as many.
    At width 32 and 6 classes it has 0.27 M parameters, at the greatest width of 56 below 1 M.
    """

    head = ("branches",)
    body_dilations = (1, 2, 4)
    head_dilations = (1, 2, 4, 8)

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        channels = 2 * width
        self.stem = Unit(3, width, stride=2)
        self.down = Unit(width, channels, stride=2)
        self.body = nn.ModuleList(
            nn.Sequential(Unit(channels, channels, dilation=d), Unit(channels, channels, dilation=d))
            for d in self.body_dilations
        )
        self.up = nn.Conv2d(channels, width, 1)
        self.fuse = Unit(width, width)
        self.branches = nn.ModuleList(nn.Conv2d(width, classes, 3, padding=d, dilation=d) for d in self.head_dilations)

    def blocks(self) -> list[nn.Module]:
        """The residual blocks."""
        return list(self.body)

    def encode(self, images: Tensor) -> Features:
        """The features at stride 2."""
        fine = self.stem(images)
        x = self.down(fine)
        for block in self.body:
            x = x + block(x)
        return (self.fuse(fine + upsampled(self.up(x), fine.shape[-2:])),)

    def decode(self, features: Features, images: Tensor) -> Tensor:
        """The sum of the branches, upsampled."""
        (x,) = features
        x = reduce(add, (branch(x) for branch in self.branches))
        return upsampled(x.to(images.dtype), images.shape[-2:])
