"""What a segmentation network is to all that train it, judge by it and keep it."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Features = tuple[Tensor, ...]
"""What an encoder makes of images, each [N, C, h, w], in an order of its own."""


class Segmenter(nn.Module):
    """Logits [N, K, H, W] of images [N, 3, H, W]: a head decodes what a body encodes.

    A protocol, and a class as networks are modules. `frozen_batch_norm` uses the running statistics of batch norm in
    training, too, which makes an image's output independent of its batch.
    """

    head: tuple[str, ...]
    """The names of the parts that learn at the head's rate, and may start fresh where the body starts from weights."""
    multiple: int = 1
    """Of which the sides of images are multiples inside the network: others are scaled up to it, and logits back."""

    def __init__(self, *, frozen_batch_norm: bool = False) -> None:
        super().__init__()
        self.frozen_batch_norm = frozen_batch_norm

    def encode(self, images: Tensor) -> Features:
        """The body's features of images [N, 3, H, W]."""
        raise NotImplementedError

    def decode(self, features: Features, images: Tensor) -> Tensor:
        """Logits [N, K, H, W] of features; of the images that these are of, size and precision count."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K, H, W] of images [N, 3, H, W], in the images' precision."""
        return self.decode(self.encode(images), images)

    def blocks(self) -> Sequence[nn.Module]:
        """The parts of the body, one after the other, that training may compute twice to save memory."""
        raise NotImplementedError

    @property
    def mixes_images(self) -> bool:
        """Whether what it makes of an image in training depends on the batch: by the statistics of batch norm."""
        return not self.frozen_batch_norm and any(isinstance(module, _BatchNorm) for module in self.modules())

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that learn, those of the `body` and of the `head`, which have rates of their own."""
        groups: dict[str, list[nn.Parameter]] = {"body": [], "head": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups["head" if self.in_head(name) else "body"].append(parameter)
        return groups

    def in_head(self, name: str) -> bool:
        """Whether a tensor of this name in its state belongs to the head."""
        return any(name.startswith(f"{part}.") for part in self.head)

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.frozen_batch_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
