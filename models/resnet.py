"""Dilated ResNets (He et al., 2016), with the parameter names of the published checkpoints."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from .segmenter import Segmenter

Backbone = Literal["caffe", "torchvision"]
"""Whose ResNet it is. They differ in where a stride sits and how pooling rounds, not in names and shapes.

In the Caffe original a block's stride sits on its first 1x1 convolution, in torchvision on its 3x3.
"""

Blocks = tuple[int, int, int, int]
"""How many each stage has."""


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


class DilatedResNet(Segmenter):
    """A segmenter whose body is a ResNet, the last stages of which are dilated where they would have a stride."""

    def __init__(self, blocks: Blocks, *, stride: Literal[8, 16], backbone: Backbone, frozen_batch_norm: bool) -> None:
        """`stride` is that of the last stage's grid of features."""
        super().__init__(frozen_batch_norm=frozen_batch_norm)
        self.backbone: Backbone = backbone
        third, fourth = ((1, 2), (1, 4)) if stride == 8 else ((2, 1), (1, 2))
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm(64)
        self.layer1 = self._stage(64, 64, blocks[0], 1, 1)
        self.layer2 = self._stage(256, 128, blocks[1], 2, 1)
        self.layer3 = self._stage(512, 256, blocks[2], *third)
        self.layer4 = self._stage(1024, 512, blocks[3], *fourth)

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

    def initialise(self) -> None:
        """Give all convolutions fresh weights (He et al., 2015)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def blocks(self) -> list[nn.Module]:
        """All blocks of the ResNet."""
        return [block for stage in (self.layer1, self.layer2, self.layer3, self.layer4) for block in stage]

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """The first stage's features [N, 256, h, w] at stride 4, and the last one's, of 2048 channels."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        fine = self.layer1(F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=self.backbone == "caffe"))
        return fine, self.layer4(self.layer3(self.layer2(fine)))
