"""Checkpoints: one nested state as a directory of safetensors and JSON, sealed by a manifest. Nothing is pickled."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..models.manifest import MANIFEST, BrokenDirectoryError, FormatVersionError, verify_directory, write_directory
from ..models.partial import drop
from ..models.tensors import save_tensors
from .errors import CheckpointError, ForeignCheckpointError
from .keeper import InPlace, Keeper
from .kept import Kept

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""Folder of a run's directory in which its checkpoints lie."""
TENSORS = "state.safetensors"
SCALARS = "state.json"
_REFERENCE = "$tensor"
_NAME = re.compile(r"step-(\d+)")
_KEPT = Kept()


def save_checkpoint(root: Path, step: int, state: dict[str, Any], kept: Kept = _KEPT) -> Path:
    """Write the state reached after `step` steps to `root`, whole or not at all, and drop those that do not stay.

    `state` nests dicts, lists, tensors and JSON scalars; as in JSON, keys become text and tuples lists. Several
    processes may save to the same root. Raises OSError, for a full disk among others: the older ones are left then.
    """
    told, tensors = packed(state)

    def write(directory: Path) -> None:
        save_tensors(on_host(tensors), directory / TENSORS)
        (directory / SCALARS).write_text(told)

    path = checkpoint_at(root, step)
    write_directory(path, write)
    paths = dict(_newest_first(root))
    for old in kept.superseded(paths, step):
        drop(paths[old])
    return path


def host_copy(state: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A copy of a state, of tensors on a device and on the host, that stays as it is; all of it is on the host."""
    told, tensors = packed(state)
    copies = {name: _begun_copy(tensor) for name, tensor in tensors.items()}
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return unpacked(told, copies)


def _begun_copy(tensor: Tensor) -> Tensor:
    # From a GPU to pinned memory all tensors are on their way at once.
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor.detach(), non_blocking=True)


def checkpoint_at(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, if there is one."""
    return root / f"step-{step:08d}"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint directory. Raises BrokenDirectoryError if it is damaged, or is being removed."""
    told = _told(path)
    with _there(path / TENSORS) as tensors:
        return unpacked(told, load_file(tensors))


def load_scalars(path: Path) -> dict[str, Any]:
    """What `load_checkpoint` reads, without its tensors. Raises BrokenDirectoryError as that does."""
    return json.loads(_told(path))


def _told(path: Path) -> str:
    verify_directory(path, needs=[SCALARS, TENSORS])
    with _there(path / SCALARS) as scalars:
        return scalars.read_text()


@contextmanager
def _there(file: Path) -> Iterator[Path]:
    """A file of a checkpoint while it is read, which another process may remove though it was just verified."""
    try:
        yield file
    except FileNotFoundError:
        raise BrokenDirectoryError(f"{file.parent} lacks {file.name}") from None


def newest_checkpoint(
    root: Path, load: Callable[[Path], dict[str, Any]] = load_checkpoint, keeper: Keeper | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, with what `load` reads of it; None before the first.

    One that is only with the keeper is brought to `root`.
    A damaged one is skipped for the one before it, with a warning. Raises CheckpointError if all are damaged: a run
    that is worth days does not start over unasked. Raises it too, at once, for a checkpoint of another format.
    """
    keeper = keeper or InPlace()
    damaged = []
    for _, path in _newest_first(root, keeper):
        try:
            if not os.path.lexists(path):
                keeper.bring(path)
            return path, load(path)
        except FormatVersionError as error:
            raise ForeignCheckpointError(
                f"{error}: go on with the version of advseg that wrote it, or train in another directory"
            ) from None
        except BrokenDirectoryError as error:
            if all(path != left for _, left in _newest_first(root, keeper)):
                # Another process has saved newer ones meanwhile.
                return newest_checkpoint(root, load, keeper)
            log.warning("skipping a damaged checkpoint: %s", error)
            damaged.append(error)
    if damaged:
        raise CheckpointError(
            f"no checkpoint in {keeper.place(root)} is whole ({damaged[0]}): "
            f"put an undamaged copy back, or remove {keeper.place(root)} to start from step 0"
        )
    return None


def newest_sealed(root: Path) -> tuple[int, Path] | None:
    """Step and path of the newest checkpoint that has its manifest; what it holds is not read."""
    return next(((step, path) for step, path in _newest_first(root) if (path / MANIFEST).exists()), None)


def step_of(name: str) -> int | None:
    """The step after which a checkpoint of that name was saved; None if it is none's name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def _newest_first(root: Path, keeper: Keeper | None = None) -> list[tuple[int, Path]]:
    """Step and path of every checkpoint, damaged ones included, and those that only the keeper has."""
    names = {path.name for path in root.glob("*")}.union(keeper.names() if keeper else ())
    return sorted(((step, root / name) for name in names if (step := step_of(name)) is not None), reverse=True)


def packed(state: Any) -> tuple[str, dict[str, Tensor]]:
    """A state as JSON, and the tensors that it refers to by name, as they are. Raises TypeError for what is neither."""
    tensors: dict[str, Tensor] = {}

    def refer(value: Any) -> dict[str, str]:
        if not isinstance(value, Tensor):
            raise TypeError(f"a state nests dicts, lists, tensors and JSON scalars, but holds a {type(value).__name__}")
        name = str(len(tensors))
        tensors[name] = value
        return {_REFERENCE: name}

    return json.dumps(state, default=refer), tensors


def unpacked(told: str, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `packed` took apart."""
    return json.loads(
        told, object_hook=lambda found: tensors[found[_REFERENCE]] if found.keys() == {_REFERENCE} else found
    )


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors takes them, which need no copy where they are so already."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
