"""DeepLab-v2 on a dilated ResNet (Chen et al., 2017), with the parameter names of the published checkpoints."""

from functools import reduce
from operator import add
from typing import Literal, Self

from torch import Tensor, nn
from torch.nn import functional as F

from .upsampling import upsampled

DILATIONS = (6, 12, 18, 24)

Backbone = Literal["caffe", "torchvision"]
"""Whose ResNet it is. They differ in where a stride sits and how pooling rounds, not in names and shapes.

In the Caffe original a block's stride sits on its first 1x1 convolution, in torchvision on its 3x3.
"""


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that does not count its batches: nobody reads that where a momentum is set, and counting is a kernel.

    The count stays among the buffers, since published checkpoints have it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, h, w], normalised."""
        momentum, training = self.momentum or 0.0, self.training
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training, momentum, self.eps
        )


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; `strides` are those of the first two convolutions."""

    expansion = 4

    def __init__(self, channels: int, planes: int, strides: tuple[int, int], dilation: int, project: bool) -> None:
        super().__init__()
        out, stride = planes * self.expansion, max(strides)
        self.conv1 = nn.Conv2d(channels, planes, 1, stride=strides[0], bias=False)
        self.bn1 = BatchNorm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=strides[1], padding=dilation, dilation=dilation, bias=False)
        self.bn2 = BatchNorm(planes)
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = BatchNorm(out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), BatchNorm(out)) if project else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, 4 * planes, h / stride, w / stride], stride being the greater one."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += shortcut
        return F.relu(y, inplace=True)


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


class DeepLabV2(nn.Module):
    """Image [N, 3, H, W] to logits [N, K, H, W], upsampled from stride 8, bilinear with aligned corners.

    Batch-norm scale and shift are never trained. `frozen_batch_norm` also uses the running
    statistics in training, which makes an image's output independent of its batch.
    """

    def __init__(
        self,
        classes: int,
        blocks: tuple[int, int, int, int],
        frozen_batch_norm: bool,
        *,
        branches: int = len(DILATIONS),
        backbone: Backbone = "caffe",
    ) -> None:
        super().__init__()
        self.frozen_batch_norm = frozen_batch_norm
        self.backbone: Backbone = backbone
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm(64)
        self.layer1 = self._stage(64, 64, blocks[0], stride=1, dilation=1)
        self.layer2 = self._stage(256, 128, blocks[1], stride=2, dilation=1)
        self.layer3 = self._stage(512, 256, blocks[2], stride=1, dilation=2)
        self.layer4 = self._stage(1024, 512, blocks[3], stride=1, dilation=4)
        self.layer5 = Branches(2048, classes, branches)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, BatchNorm):
                module.weight.requires_grad_(False)
                module.bias.requires_grad_(False)

    def _stage(self, channels: int, planes: int, blocks: int, stride: int, dilation: int) -> nn.Sequential:
        out = planes * Bottleneck.expansion
        if self.backbone == "caffe":
            strides, entry = (stride, 1), dilation
        else:
            # A 3x3 with a stride reads the finer grid, that of the stage before; so does one dilated in its stead.
            strides, entry = (1, stride), max(dilation // 2, 1)
        first = Bottleneck(channels, planes, strides, entry, project=True)
        rest = (Bottleneck(out, planes, (1, 1), dilation, project=False) for _ in range(blocks - 1))
        return nn.Sequential(first, *rest)

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.frozen_batch_norm:
            for module in self.modules():
                if isinstance(module, BatchNorm):
                    module.eval()
        return self

    def head(self) -> list[nn.Parameter]:
        """The classifier's parameters, which learn at a multiple of the body's rate."""
        return list(self.layer5.parameters())

    def blocks(self) -> list[nn.Module]:
        """The parts of the body, one after the other, that training may compute twice to save memory."""
        return [block for stage in (self.layer1, self.layer2, self.layer3, self.layer4) for block in stage]

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K, H, W] of images [N, 3, H, W], in the images' precision."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=self.backbone == "caffe")
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.layer5(x).to(images.dtype)
        return upsampled(x, images.shape[-2:])
