"""Semantic segmentation networks of Hugging Face's transformers, as one of ours."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .files import one_line
from .pretrained import Config, PretrainedError
from .segmenter import Features, Segmenter

_STRIDE = 32
"""Of networks whose features become coarser from stage to stage: sides are multiples of it, so that all stages fit."""


class Pretrained(Segmenter):
    """A segmenter with a body of transformers, which learns unless it is frozen.

    Nothing is dropped out, whatever its configuration says: what is would come from the global random state, and a
    training that was resumed would end otherwise.
    """

    def __init__(self, *, frozen_batch_norm: bool, freeze: bool) -> None:
        super().__init__(frozen_batch_norm=frozen_batch_norm)
        self._freeze = freeze

    def freeze_body(self) -> None:
        """Let the body not learn, if it is to be frozen."""
        if self._freeze:
            for name, parameter in self.named_parameters():
                if not self.in_head(name):
                    parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which batch norm alone is, unless it is frozen or in a frozen body."""
        super().train(False)
        self.training = mode
        for name, module in self.named_modules():
            if isinstance(module, _BatchNorm) and not (self._freeze and not self.in_head(f"{name}.")):
                module.train(mode and not self.frozen_batch_norm)
        return self

    def given(self, folder: Path) -> dict[str, Tensor]:
        """What a folder holds of its weights, by the names of ours. Raises PretrainedError."""
        raise NotImplementedError

    def blocks(self) -> Sequence[nn.Module]:
        """The layers of the body."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        layers = [(name, each) for name, each in self.named_modules() if isinstance(each, GradientCheckpointingLayer)]
        return [layer for name, layer in layers if not self.in_head(f"{name}.")]


class Transformer(Pretrained):
    """Image [N, 3, H, W] to logits [N, K, H, W], upsampled bilinearly with a pixel's centre in its middle.

    Features are those of all stages for SegFormer and UperNet, tokens [N, C, tokens, 1] for DPT, and logits for others,
    whose parts have no boundary that all of them share.
    """

    def __init__(self, config: Config, classes: int, *, frozen_batch_norm: bool, freeze: bool) -> None:
        super().__init__(frozen_batch_norm=frozen_batch_norm, freeze=freeze)
        self.kind = config["model_type"]
        self.network: Any = _built(config, classes)
        body = self.network.base_model_prefix or "backbone"
        self.head = tuple(f"network.{name}" for name, _ in self.network.named_children() if name != body)
        patch = config.get("patch_size", self.network.config.to_dict().get("patch_size"))
        self.multiple = patch if isinstance(patch, int) and self.kind in ("beit", "data2vec-vision", "dpt") else _STRIDE
        self.freeze_body()

    def encode(self, images: Tensor) -> Features:
        """See the class."""
        network, read = self.network, rounded(images, self.multiple)
        match self.kind:
            case "segformer":
                return tuple(network.segformer(read, output_hidden_states=True).hidden_states)
            case "upernet":
                return tuple(network.backbone(read).feature_maps)
            case "dpt":
                layers = network.dpt(read, output_hidden_states=True).hidden_states[1:]
                return tuple(layers[place].mT.unsqueeze(-1) for place in network.config.backbone_out_indices)
            case _:
                return (network(pixel_values=read).logits,)

    def decode(self, features: Features, images: Tensor) -> Tensor:
        """See the class."""
        network = self.network
        match self.kind:
            case "segformer" | "upernet":
                logits = network.decode_head(features)
            case "dpt":
                # Left alone, it takes images for square.
                rows, columns = (-(-side // self.multiple) for side in images.shape[-2:])
                logits = network.head(network.neck([each.squeeze(-1).mT for each in features], rows, columns))
            case _:
                (logits,) = features
        return F.interpolate(logits.to(images.dtype), images.shape[-2:], mode="bilinear", align_corners=False)

    def given(self, folder: Path) -> dict[str, Tensor]:
        """What a folder holds of its weights, by the names of ours. Raises PretrainedError."""
        return {f"network.{name}": tensor for name, tensor in read_tensors(self.network, folder).items()}


def rounded(images: Tensor, multiple: int) -> Tensor:
    """Images [N, 3, H, W] enlarged bilinearly to the next height and width that are multiples."""
    size = [-(-side // multiple) * multiple for side in images.shape[-2:]]
    if size == [*images.shape[-2:]]:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def configured(config: Config, **settings: Any) -> Any:
    """A configuration as transformers has it, with some settings. Raises PretrainedError."""
    from transformers import CONFIG_MAPPING

    if config["model_type"] not in CONFIG_MAPPING:
        raise PretrainedError(f"this version of transformers has no model_type {config['model_type'][:40]!r}")
    try:
        return CONFIG_MAPPING[config["model_type"]].from_dict({**config, **settings})
    except Exception as error:
        # Of each kind of network transformers refuses other things, in other ways.
        raise PretrainedError(f"its configuration is refused by transformers: {one_line(error)[:200]}") from None


def assembled(build: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    """The network of a configuration, with fresh weights. Raises PretrainedError."""
    try:
        return build(config)
    except Exception as error:
        raise PretrainedError(f"transformers makes no network of its configuration: {one_line(error)[:200]}") from None


def read_tensors(network: Any, folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder that fit a network of transformers, by its names. Raises PretrainedError."""
    from transformers.utils import logging

    if not any(folder.glob("*.safetensors")):
        raise PretrainedError(f"{folder} holds no safetensors, and weights of other kinds are not read: convert them")
    level = logging.get_verbosity()
    # It tells of a fresh head, which we tell ourselves.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        given, found = type(network).from_pretrained(
            str(folder),
            config=network.config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:
        raise PretrainedError(f"weights in {folder} cannot be read: {one_line(error)[:200]}") from None
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
    fresh = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    return {name: tensor for name, tensor in given.state_dict().items() if name not in fresh}


def _built(config: Config, classes: int) -> nn.Module:
    from transformers import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING, AutoModelForSemanticSegmentation

    made = configured(config, num_labels=classes, use_auxiliary_head=False)
    if type(made) not in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
        kinds = sorted(kind.model_type for kind in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING)
        raise PretrainedError(f"its model_type {made.model_type} segments nothing: take one of {', '.join(kinds)}")
    if getattr(made, "is_hybrid", False):
        raise PretrainedError("it is a hybrid DPT, whose body reads square images alone: take one that is none")
    return assembled(AutoModelForSemanticSegmentation.from_config, made)
