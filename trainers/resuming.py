"""From which checkpoint a run goes on: the leading worker decides, and all workers take up the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..models.manifest import BrokenDirectoryError, checksum_of
from .checkpoint import load_checkpoint, newest_checkpoint
from .distributed import World
from .errors import CheckpointError
from .keeper import Keeper

Found = tuple[Path, dict[str, Any]]
"""A checkpoint, and the state in it."""


def common_checkpoint(
    root: Path, keeper: Keeper, accept: Callable[[Path, dict[str, Any]], None], world: World, device: torch.device
) -> Found | None:
    """The newest whole checkpoint that the leading worker finds in `root`, for each worker; None before the first.

    Where they have no folder in common, the keeper brings it to each.

    `accept` raises CheckpointError for one that this run cannot take up. Where any worker cannot, or does not find the
    same one in its `root`, all of them raise CheckpointError, and name that worker.
    """
    found: Found | None = None
    problem: CheckpointError | None = None
    choice = ""
    try:
        if world.leads and (found := newest_checkpoint(root, keeper=keeper)):
            accept(*found)
            choice = f"{found[0].name} {checksum_of(found[0])}"
    except CheckpointError as error:
        problem = error
    choice = world.tell(choice, device)[0]
    if not world.leads and choice:
        try:
            found = _chosen(root, keeper, *choice.split())
            accept(*found)
        except CheckpointError as error:
            problem = error
    problems = world.tell(str(problem or ""), device)
    if world.leads and problem:
        raise problem
    for rank, text in enumerate(problems):
        if text:
            raise CheckpointError(f"worker {rank} of {world.size} cannot resume as worker 0 does: {text}")
    return found


def _chosen(root: Path, keeper: Keeper, name: str, checksum: str) -> Found:
    """The checkpoint of a name and the checksum of its manifest. Raises CheckpointError."""
    path = root / name
    try:
        if not path.exists():
            keeper.bring(path)
        state = load_checkpoint(path)
    except BrokenDirectoryError as error:
        raise CheckpointError(f"{error}: let all workers see the same storage") from None
    if checksum_of(path) != checksum:
        raise CheckpointError(f"{path} is not what worker 0 finds there: let all workers see the same storage")
    return path, state
