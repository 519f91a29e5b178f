"""The table of segmentation networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_type_hints

import torch
from torch import Tensor

from .compact import GROUPS, Compact
from .deeplab_v2 import DeepLabV2
from .deeplab_v3plus import DeepLabV3Plus, OutputStride
from .dinov2_dpt import Dinov2DPT
from .pretrained import Config, folder_of, read_config, read_normalisation
from .resnet import Backbone, Blocks
from .segmenter import Segmenter
from .settings import ChosenBy, Interval, Settings
from .transformer import Transformer

_RESNET50, _RESNET101 = (3, 4, 6, 3), (3, 4, 23, 3)
RESNET_BLOCKS: dict[str, Blocks] = {
    "deeplab_v2_resnet50": _RESNET50,
    "deeplab_v2_resnet101": _RESNET101,
    "deeplab_v3plus_resnet50": _RESNET50,
    "deeplab_v3plus_resnet101": _RESNET101,
}

LEAST_SIDE = 8
"""Height and width in pixels of the smallest image that a network reads: of less its strides would leave nothing."""


Norm = Literal["batch", "frozen", "synchronised"]
"""Which statistics batch norm uses in training."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """What a training asks the settings of any network."""

    @property
    def norm(self) -> Norm:
        """As its `batch_norm` says; a network that has none is like one whose statistics are frozen."""
        return getattr(self, "batch_norm", "frozen")

    @property
    def least_share(self) -> int:
        """Images that each worker must learn from at once."""
        return 1


@dataclass(frozen=True, kw_only=True)
class PoolingSettings(NetworkSettings):
    """Of networks that pool whole images and normalise the result."""

    @property
    def least_share(self) -> int:
        """Of one image, image pooling has one value a channel, and so no spread."""
        return 1 if self.norm == "frozen" else 2


@dataclass(frozen=True, kw_only=True)
class CompactSettings(NetworkSettings):
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
class DeepLabSettings(NetworkSettings):
    """DeepLab-v2, the paper's segmentation network."""

    architecture: Literal["deeplab_v2_resnet50", "deeplab_v2_resnet101"] = "deeplab_v2_resnet101"
    backbone: Backbone = "caffe"
    """`caffe` for the published DeepLab checkpoints, `torchvision` for its ResNet state dicts. Each has its own
    normalisation; names and shapes are the same, so weights of one load into the other, and are worth little there."""
    branches: Literal[2, 4] = 4
    """How many of the four dilated branches are summed (paper: 4; released code: 2). The others are never trained."""
    batch_norm: Norm = "batch"
    """Statistics used in training: those of a worker's own share of the batch (running ones updated), the running
    ones, or those of the shares of all workers (GPUs only). Scale and shift are never trained."""
    weights: str | None = None
    """Start weights: a path, or an s3:// address; None: fresh."""


@dataclass(frozen=True, kw_only=True)
class DeepLabV3PlusSettings(PoolingSettings):
    """DeepLab-v3+ (Chen et al., 2018), with plain convolutions, as most of semi-supervised segmentation has it."""

    architecture: Literal["deeplab_v3plus_resnet50", "deeplab_v3plus_resnet101"] = "deeplab_v3plus_resnet101"
    backbone: Backbone = "torchvision"
    """`torchvision` for its ResNet state dicts, `caffe` for the bodies of published DeepLab checkpoints. Each has its
    own normalisation; names and shapes are the same, so weights of one load into the other, and are worth little
    there."""
    output_stride: OutputStride = 16
    """Pixels of the image between two of the last features: 8 sees finer, and is about three times the
    arithmetic. Dilations are doubled with it, so that weights of either serve both."""
    batch_norm: Norm = "batch"
    """Statistics used in training: those of a worker's own share of the batch (running ones updated), the running
    ones, or those of the shares of all workers (GPUs only). Scale and shift learn. Of one image alone there are none:
    unless it is `frozen`, each worker needs two at once."""
    weights: str | None = None
    """Start weights: a path, or an s3:// address; None: fresh."""


@dataclass(frozen=True, kw_only=True)
class TransformersSettings(PoolingSettings):
    """A network of Hugging Face's transformers for semantic segmentation: SegFormer, UperNet, DPT, BEiT and others.

    It needs `pip install 'advseg[transformers]'`.
    """

    architecture: Literal["transformers"] = "transformers"
    pretrained: str
    """Where its configuration and its start weights are: a folder, which begins with `./` or `/`, or a name on the
    Hugging Face Hub. Weights are read as safetensors, and no code of it is run. What other classes have is fresh."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; a commit alone is the same network tomorrow. None: the newest."""
    freeze: bool = False
    """Whether the head alone learns."""
    batch_norm: Norm = "batch"
    """Of what batch norm there is, the statistics used in training: those of a worker's own share of the batch, the
    running ones, or those of the shares of all workers (GPUs only). Unless it is `frozen`, each worker needs two images
    at once."""
    weights: str | None = None
    """Other start weights than its own: a path, or an s3:// address."""


@dataclass(frozen=True, kw_only=True)
class Dinov2Settings(NetworkSettings):
    """DINOv2 with the head of DPT, as in UniMatch V2 (Yang et al., 2025).

    It needs `pip install 'advseg[transformers]'`.
    """

    architecture: Literal["dinov2_dpt"] = "dinov2_dpt"
    pretrained: str = "facebook/dinov2-small"
    """Where the body's configuration and start weights are: a folder, which begins with `./` or `/`, or a name on the
    Hugging Face Hub, of DINOv2 with or without registers. The head is fresh."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; a commit alone is the same network tomorrow. None: the newest."""
    freeze: bool = False
    """Whether the head alone learns."""
    weights: str | None = None
    """Other start weights than its own: a path, or an s3:// address."""


SegmenterSettings = Annotated[
    CompactSettings | DeepLabSettings | DeepLabV3PlusSettings | TransformersSettings | Dinov2Settings,
    ChosenBy("architecture"),
]

ARCHITECTURES: dict[str, type[NetworkSettings]] = {
    kind: settings
    for settings in (CompactSettings, DeepLabSettings, DeepLabV3PlusSettings, TransformersSettings, Dinov2Settings)
    for kind in get_args(get_type_hints(settings)["architecture"])
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
    """How a network reads images: as those of the weights that it starts from were read. Raises PretrainedError."""
    match settings:
        case TransformersSettings() | Dinov2Settings():
            found = read_normalisation(folder_of(settings.pretrained, settings.revision))
            if found is None:
                return IMAGENET
            mean, std = found
            return Normalisation(mean=mean, std=std)
        case DeepLabSettings(backbone="caffe") | DeepLabV3PlusSettings(backbone="caffe"):
            return CAFFE_MEANS
        case _:
            return IMAGENET


def config_of(settings: SegmenterSettings) -> Config | None:
    """The configuration of a network that is kept elsewhere; None of others. Raises PretrainedError."""
    match settings:
        case TransformersSettings() | Dinov2Settings():
            return read_config(folder_of(settings.pretrained, settings.revision))
        case _:
            return None


def build_segmenter(settings: SegmenterSettings, classes: int, config: Config | None = None) -> Segmenter:
    """The network for a number of classes, with fresh weights from torch's global generator.

    `config` is that of its card, so that it is looked for nowhere else. Raises PretrainedError if it builds none.
    """
    match settings:
        case TransformersSettings() | Dinov2Settings():
            return _pretrained(settings, classes, config)
        case CompactSettings():
            return Compact(classes, settings.width)
        case DeepLabSettings():
            return DeepLabV2(
                classes,
                RESNET_BLOCKS[settings.architecture],
                frozen_batch_norm=settings.norm == "frozen",
                branches=settings.branches,
                backbone=settings.backbone,
            )
        case DeepLabV3PlusSettings():
            return DeepLabV3Plus(
                classes,
                RESNET_BLOCKS[settings.architecture],
                frozen_batch_norm=settings.norm == "frozen",
                output_stride=settings.output_stride,
                backbone=settings.backbone,
            )


def _pretrained(settings: TransformersSettings | Dinov2Settings, classes: int, config: Config | None) -> Segmenter:
    config = config or read_config(folder_of(settings.pretrained, settings.revision))
    match settings:
        case TransformersSettings():
            frozen = settings.norm == "frozen"
            return Transformer(config, classes, frozen_batch_norm=frozen, freeze=settings.freeze)
        case Dinov2Settings():
            return Dinov2DPT(config, classes, freeze=settings.freeze)
