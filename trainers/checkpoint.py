"""Checkpoints: one nested state as a directory of safetensors and JSON, sealed by a manifest. Nothing is pickled."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
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
    tensors: dict[str, Tensor] = {}
    scalars = split_state(state, "", tensors)

    def write(directory: Path) -> None:
        save_tensors(tensors, directory / TENSORS)
        (directory / SCALARS).write_text(json.dumps(scalars))

    path = checkpoint_at(root, step)
    write_directory(path, write)
    paths = dict(_newest_first(root))
    for old in kept.superseded(paths, step):
        drop(paths[old])
    return path


def host_copy(state: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A copy of a state, of tensors on a device and on the host, that stays as it is; all of it is on the host."""
    copy = _copied(state)
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return copy


def _copied(value: Any) -> Any:
    match value:
        case torch.Tensor():
            # From a GPU to pinned memory all tensors are on their way at once.
            copy = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
            return copy.copy_(value.detach(), non_blocking=True)
        case dict():
            return {key: _copied(child) for key, child in value.items()}
        case list() | tuple():
            return [_copied(child) for child in value]
        case _:
            return value


def checkpoint_at(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, if there is one."""
    return root / f"step-{step:08d}"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint directory. Raises BrokenDirectoryError if it is damaged, or is being removed."""
    scalars = load_scalars(path)
    with _there(path / TENSORS) as tensors:
        return join_state(scalars, load_file(tensors))


def load_scalars(path: Path) -> dict[str, Any]:
    """What `load_checkpoint` reads, without its tensors. Raises BrokenDirectoryError as that does."""
    verify_directory(path, needs=[SCALARS, TENSORS])
    with _there(path / SCALARS) as scalars:
        return json.loads(scalars.read_text())


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


def tensors_in(state: Any) -> Iterator[Tensor]:
    """The tensors of a state, as they are."""
    match state:
        case torch.Tensor():
            yield state
        case dict():
            for child in state.values():
                yield from tensors_in(child)
        case list() | tuple():
            for child in state:
                yield from tensors_in(child)


def split_state(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON, its tensors put on the host into `tensors` under their path in the nest, which begins `name`."""
    match value:
        case torch.Tensor():
            name = f"{len(tensors)}{name}"  # the number tells "a/b" from "b" within "a"
            tensors[name] = value.detach().cpu().contiguous()
            return {_REFERENCE: name}
        case dict():
            return {str(key): split_state(child, f"{name}/{key}", tensors) for key, child in value.items()}
        case list() | tuple():
            return [split_state(child, f"{name}/{index}", tensors) for index, child in enumerate(value)]
        case _:
            return value


def join_state(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The state that `split_state` took apart."""
    match value:
        case {"$tensor": str(name)} if len(value) == 1:
            return tensors[name]
        case dict():
            return {key: join_state(child, tensors) for key, child in value.items()}
        case list():
            return [join_state(child, tensors) for child in value]
        case _:
            return value
