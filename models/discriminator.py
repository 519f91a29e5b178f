"""The fully convolutional discriminator (Hung et al., 2018, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from .settings import Interval, Settings
from .upsampling import upsampled


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSettings(Settings):
    """Shape of the discriminator."""

    widths: tuple[Annotated[int, Interval(1)], ...] = (64, 128, 256, 512)
    """Channels of the 4x4 stride-2 convolutions, one a stage; each halves the resolution."""
    classifier: Literal["strided", "dense"] = "strided"
    """Last layer: `strided` is the paper's 4x4 with stride 2, `dense` a 3x3 that keeps the resolution."""

    @property
    def smallest_side(self) -> int:
        """Height and width in pixels below which nothing is left after the last stage, unless it is padded."""
        return _smallest_side(len(self.widths), self.classifier)


class Discriminator(nn.Module):
    """Class probabilities [N, K, H, W] to logits [N, 1, H, W] that a pixel comes from the ground truth.

    Parameter names `conv1` ... and `classifier` are those of the published checkpoints.
    """

    def __init__(self, classes: int, widths: Sequence[int], classifier: str) -> None:
        super().__init__()
        channels = [classes, *widths]
        self.classes = classes
        self.stages = len(widths)
        self.smallest_side = _smallest_side(self.stages, classifier)
        for i in range(self.stages):
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels[i], channels[i + 1], 4, stride=2, padding=1))
        self.classifier = (
            nn.Conv2d(channels[-1], 1, 4, stride=2, padding=1)
            if classifier == "strided"
            else nn.Conv2d(channels[-1], 1, 3, padding=1)
        )

    def forward(self, probabilities: Tensor) -> Tensor:
        """Logits [N, 1, H, W], upsampled bilinear with aligned corners, in the probabilities' precision.

        Probabilities below the smallest side are judged as part of a map of it that is zero elsewhere, as truth is
        where nothing is known.
        """
        height, width = probabilities.shape[-2:]
        missing = [max(0, self.smallest_side - side) for side in (height, width)]
        if any(missing):
            return self(F.pad(probabilities, (0, missing[1], 0, missing[0])))[..., :height, :width]
        x = probabilities
        for i in range(self.stages):
            x = F.leaky_relu(self.get_submodule(f"conv{i + 1}")(x), 0.2)
        x = self.classifier(x).to(probabilities.dtype)
        return upsampled(x, probabilities.shape[-2:])


def _smallest_side(stages: int, classifier: str) -> int:
    return 2 ** (stages + (classifier == "strided"))


def build_discriminator(settings: DiscriminatorSettings, classes: int) -> Discriminator:
    """The discriminator for a number of classes."""
    return Discriminator(classes, settings.widths, settings.classifier)
