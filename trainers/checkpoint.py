"""Checkpoints: one nested state as a directory of safetensors and JSON, sealed by a manifest. Nothing is pickled."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..models.manifest import BrokenDirectoryError, verify_directory, write_directory

log = logging.getLogger(__name__)

TENSORS = "state.safetensors"
SCALARS = "state.json"
_REFERENCE = "$tensor"
KEPT = 2


def save_checkpoint(root: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state reached after `step` steps to `root`, whole or not at all, and drop all but the newest two.

    `state` nests dicts, lists, tensors and JSON scalars; as in JSON, keys become text and tuples lists.
    """
    tensors: dict[str, Tensor] = {}
    scalars = _split(state, "", tensors)

    def write(directory: Path) -> None:
        save_file(tensors, directory / TENSORS)
        (directory / SCALARS).write_text(json.dumps(scalars))

    path = root / f"step-{step:08d}"
    write_directory(path, write)
    for old in _newest_first(root)[KEPT:]:
        shutil.rmtree(old)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint directory. Raises BrokenDirectoryError if it is damaged."""
    verify_directory(path)
    return _join(json.loads((path / SCALARS).read_text()), load_file(path / TENSORS))


def newest_checkpoint(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, with its state; a damaged one is skipped with a warning."""
    for path in _newest_first(root):
        try:
            return path, load_checkpoint(path)
        except BrokenDirectoryError as error:
            log.warning("skipping a damaged checkpoint: %s", error)
    return None


def _newest_first(root: Path) -> list[Path]:
    return sorted(root.glob("step-*"), reverse=True)


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON, its tensors moved to `tensors` under their path in the nest."""
    match value:
        case torch.Tensor():
            name = f"{len(tensors)}{name}"  # the number tells "a/b" from "b" within "a"
            tensors[name] = value.detach().cpu().contiguous()
            return {_REFERENCE: name}
        case dict():
            return {str(key): _split(child, f"{name}/{key}", tensors) for key, child in value.items()}
        case list() | tuple():
            return [_split(child, f"{name}/{index}", tensors) for index, child in enumerate(value)]
        case _:
            return value


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case {"$tensor": str(name)} if len(value) == 1:
            return tensors[name]
        case dict():
            return {key: _join(child, tensors) for key, child in value.items()}
        case list():
            return [_join(child, tensors) for child in value]
        case _:
            return value
