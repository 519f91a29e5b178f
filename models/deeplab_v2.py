"""DeepLab-v2 on a dilated ResNet (Chen et al., 2017), with the parameter names of the published checkpoints."""

from functools import reduce
from operator import add

from torch import Tensor, nn

from .resnet import Backbone, BatchNorm, Blocks, DilatedResNet
from .segmenter import Features
from .upsampling import upsampled

DILATIONS = (6, 12, 18, 24)


class Branches(nn.Module):
    """Classifier of parallel dilated 3x3 convolutions; the outputs of the first `summed` are summed.

    The others keep their weights: without a gradient no optimizer moves or decays them.
    """

    def __init__(self, channels: int, classes: int, summed: int) -> None:
        super().__init__()
        self.summed = summed
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, K, h, w]."""
        return reduce(add, (branch(x) for branch in list(self.conv2d_list)[: self.summed]))


class DeepLabV2(DilatedResNet):
    """Image [N, 3, H, W] to logits [N, K, H, W], upsampled from stride 8, bilinear with aligned corners.

    Batch-norm scale and shift are never trained.
    """

    head = ("layer5",)

    def __init__(
        self,
        classes: int,
        blocks: Blocks,
        frozen_batch_norm: bool,
        *,
        branches: int = len(DILATIONS),
        backbone: Backbone = "caffe",
    ) -> None:
        super().__init__(blocks, stride=8, backbone=backbone, frozen_batch_norm=frozen_batch_norm)
        self.layer5 = Branches(2048, classes, branches)
        self.initialise()
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.weight.requires_grad_(False)
                module.bias.requires_grad_(False)

    def encode(self, images: Tensor) -> Features:
        """The last stage's features."""
        return super().encode(images)[1:]

    def decode(self, features: Features, images: Tensor) -> Tensor:
        """The sum of the branches, upsampled."""
        (x,) = features
        return upsampled(self.layer5(x).to(images.dtype), images.shape[-2:])
