"""DINOv2 (Oquab et al., 2024) with the head of DPT (Ranftl et al., 2021)."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .pretrained import Config, PretrainedError
from .segmenter import Features
from .transformer import Pretrained, assembled, configured, read_tensors, rounded
from .upsampling import upsampled

KINDS = ("dinov2", "dinov2_with_registers")
_WIDTHS = {384: 64, 768: 128}
"""Of the head's fused features, by the width of the body: small and base; 256 for larger ones."""


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, each after its ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w], likewise."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Adds finer features to what comes from coarser ones."""

    def __init__(self, width: int, *, last: bool) -> None:
        super().__init__()
        self.finer = None if last else Residual(width)
        self.refine = Residual(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, finer: Tensor | None) -> Tensor:
        """[N, C, h, w], of finer features [N, C, h, w], if any."""
        if finer is not None and self.finer is not None:
            x = x + self.finer(finer)
        return self.out(self.refine(x))


class DPTHead(nn.Module):
    """Four layers of a plain transformer, brought to strides of 1/4, 1/2, 1 and 2 patches and fused, coarse to fine."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        width = _WIDTHS.get(channels, 256 if channels > 768 else 64)
        stages = [max(channels // part, 1) for part in (8, 4, 2, 1)]
        self.project = nn.ModuleList(nn.Conv2d(channels, stage, 1) for stage in stages)
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(stages[0], stages[0], 4, stride=4),
                nn.ConvTranspose2d(stages[1], stages[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(stages[3], stages[3], 3, stride=2, padding=1),
            ]
        )
        self.even = nn.ModuleList(nn.Conv2d(stage, width, 3, padding=1, bias=False) for stage in stages)
        self.fuse = nn.ModuleList(Fusion(width, last=place == 3) for place in range(4))
        self.classify = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, classes, 1)
        )

    def forward(self, features: Features) -> Tensor:
        """[N, C, h, w] of four layers to logits [N, K, 8 h, 8 w]."""
        parts = zip(self.project, self.resize, self.even, features, strict=True)
        *finer, x = (even(resize(project(layer))) for project, resize, even, layer in parts)
        x = self.fuse[3](x, None)
        for place in (2, 1, 0):
            x = self.fuse[place](upsampled(x, finer[place].shape[-2:]), finer[place])
        return self.classify(upsampled(x, [2 * side for side in x.shape[-2:]]))


class Dinov2DPT(Pretrained):
    """Image [N, 3, H, W] to logits [N, K, H, W], upsampled bilinearly with aligned corners.

    Read are the layers at each quarter of the body's depth, normalised, without the class token, as by UniMatch V2
    (Yang et al., 2025).
    """

    head = ("dpt",)

    def __init__(self, config: Config, classes: int, *, freeze: bool) -> None:
        super().__init__(frozen_batch_norm=False, freeze=freeze)
        from transformers import AutoBackbone

        self.body: Any = assembled(AutoBackbone.from_config, _configured(config))
        self.multiple = self.body.config.patch_size
        self.dpt = DPTHead(self.body.config.hidden_size, classes)
        self.freeze_body()

    def encode(self, images: Tensor) -> Features:
        """Four layers [N, C, h, w], of a pixel each patch."""
        return tuple(self.body(rounded(images, self.multiple)).feature_maps)

    def decode(self, features: Features, images: Tensor) -> Tensor:
        """The head's logits, upsampled."""
        return upsampled(self.dpt(features).to(images.dtype), images.shape[-2:])

    def given(self, folder: Path) -> dict[str, Tensor]:
        """What a folder holds of its weights, by the names of ours. Raises PretrainedError."""
        return {f"body.{name}": tensor for name, tensor in read_tensors(self.body, folder).items()}


def _configured(config: Config) -> Any:
    if config["model_type"] not in KINDS:
        raise PretrainedError(f"its model_type is {config['model_type'][:40]!r}, but must be {' or '.join(KINDS)}")
    beside = ("out_features", "out_indices", "apply_layernorm", "reshape_hidden_states")
    shape = {key: value for key, value in config.items() if key not in beside}
    layers = configured(shape).num_hidden_layers
    return configured(shape, out_indices=[layers * quarter // 4 for quarter in (1, 2, 3, 4)])
