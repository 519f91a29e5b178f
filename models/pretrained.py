"""Networks of Hugging Face's transformers as they lie in a folder or on its Hub: data, of which no code is run."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from .files import one_line, read_document, shown

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = "*.safetensors"

Config = dict[str, Any]
"""What a network is built by, as in its config.json, without what says nothing of its shape."""

Channels = tuple[float, float, float]
"""Of RGB."""

MAX_CONFIG = 20_000
"""Characters of a configuration as JSON."""
_MOST, _MOST_LAYERS = 2**17, 256
_LAYERS = ("layers", "depth", "blocks")
"""What is counted by numbers whose names have these in them: modules are built for each."""
_BESIDE = ("auto_map", "architectures", "dtype", "torch_dtype", "id2label", "label2id", "num_labels", "problem_type")
_BESIDE += ("quantization_config", "transformers_version", "attn_implementation", "experts_implementation")
"""What a configuration says beside a network's shape; code of its own, types and kernels are never taken from one."""
_ELSEWHERE = ("backbone", "use_timm_backbone", "use_pretrained_backbone")
"""What makes transformers fetch a part of a network from elsewhere."""


class PretrainedError(ValueError):
    """A network that is not there, or is none: one line."""


def is_folder(name: str) -> bool:
    """Whether `model.pretrained` names a folder: one begins with `.`, `/` or `~`, and everything else is on the Hub."""
    return name.startswith((".", "/", "~"))


@cache
def folder_of(name: str, revision: str | None) -> Path:
    """Where a network lies on this machine: the folder that is named, or a copy of what the Hub has, made if need be.

    Raises PretrainedError.
    """
    if is_folder(name):
        if not (path := Path(name).expanduser()).is_dir():
            raise PretrainedError(f"model.pretrained is {name}, and there is no such folder: name one with a {CONFIG}")
        return path
    import transformers  # noqa: F401, brings the Hub's client: where either is missing, this one is to be named
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, PROCESSOR, WEIGHTS]))
    except LocalEntryNotFoundError:
        raise PretrainedError(
            f"model.pretrained is {name}, which was not fetched to this machine before, and the Hugging Face Hub is "
            f"not reached: mend the way to it, or name a folder, which begins with ./ or /"
        ) from None
    except Exception as error:
        # The client fails in many ways, of what is not there as of networks that are down.
        raise PretrainedError(
            f"model.pretrained is {name}, which the Hugging Face Hub does not give ({one_line(error)[:120]}): name one "
            f"that it has, or a folder, which begins with ./ or /"
        ) from None


def read_config(folder: Path) -> Config:
    """The configuration in a folder. Raises PretrainedError for what is none or would need code or parts of others."""
    try:
        return checked_config(read_document(folder / CONFIG))
    except (OSError, ValueError) as error:
        raise PretrainedError(f"{folder / CONFIG} describes no network: {one_line(error)}") from None


def checked_config(given: Any) -> Config:
    """A configuration of which nobody vouches for. Raises ValueError, in one line, for what is none."""
    if not isinstance(given, dict) or not isinstance(given.get("model_type"), str):
        raise ValueError(f"it must be an object with a model_type, but is {shown(given)}")
    config = _plain(given)
    if len(json.dumps(config)) > MAX_CONFIG:
        raise ValueError(f"it must have at most {MAX_CONFIG} characters")
    _refuse_elsewhere(config)
    _refuse_huge(config, "")
    return config


def read_normalisation(folder: Path) -> tuple[Channels, Channels] | None:
    """Means and spreads of RGB in 0...255 by which a network reads images; None where its folder does not say so.

    Raises PretrainedError.
    """
    if not (folder / PROCESSOR).exists():
        return None
    try:
        given = read_document(folder / PROCESSOR)
        return _channels(given["image_mean"]), _channels(given["image_std"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PretrainedError(f"{folder / PROCESSOR} does not say how images are read: {one_line(error)}") from None


def _channels(given: Any) -> Channels:
    red, green, blue = (255 * float(value) for value in given)
    return red, green, blue


def _plain(given: dict[str, Any]) -> Config:
    """Without what is beside a network's shape, in the configurations within it, too."""
    kept = {key: value for key, value in given.items() if key not in _BESIDE and not key.startswith("_")}
    return {key: _plain(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _refuse_elsewhere(config: Config) -> None:
    for key in _ELSEWHERE:
        if config.pop(key, None):
            raise ValueError(f"{key} would fetch a part of it from elsewhere: take a network that has its own")
    for value in config.values():
        if isinstance(value, dict):
            _refuse_elsewhere(value)


def _refuse_huge(value: Any, name: str) -> None:
    """Sizes of which a network could not be built in memory or time."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_huge(inner, key)
    elif isinstance(value, list):
        for inner in value:
            _refuse_huge(inner, name)
    elif isinstance(value, int | float):
        most = _MOST_LAYERS if any(part in name for part in _LAYERS) else _MOST
        if not -most <= value <= most:
            raise ValueError(f"{shown(name)} must be at most {most}, but is {shown(value)}")
