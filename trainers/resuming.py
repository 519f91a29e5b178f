"""What all workers begin with or go on from: the leading one decides, and they take up its state."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from ..models.architectures import SegmenterSettings
from ..models.pretrained import PretrainedError
from ..models.weights import WeightsError, digest_of, load_weights, start_of
from .checkpoint import checkpoint_at, newest_checkpoint, on_host, packed, unpacked
from .distributed import World
from .errors import CheckpointError, UserError
from .keeper import Keeper
from .methods.method import Method

log = logging.getLogger(__name__)

Found = tuple[Path, dict[str, Any]]
"""A checkpoint, and the state in it."""


def begin(
    method: Method, settings: SegmenterSettings, weights: Path | None, world: World, device: torch.device
) -> str | None:
    """Put the start weights that the settings name, if any, in the place of the fresh ones; their digest.

    `weights` is where they lie here, if elsewhere. The others take the leading worker's networks. Raises UserError.
    """
    digest = None
    try:
        path = weights or start_of(settings)
        loaded = load_weights(method.student, settings, path) if path else None
    except (WeightsError, PretrainedError) as error:
        raise UserError(str(error)) from None
    if path:
        digest = digest_of(path)
        log.info(loaded)
    start = shared(method.state_dict(), world, device)
    if not world.leads:
        method.load_state_dict(start)
    return digest


def common_checkpoint(
    root: Path, keeper: Keeper, accept: Callable[[Path, dict[str, Any]], None], world: World, device: torch.device
) -> Found | None:
    """The newest whole checkpoint that the leading worker finds in `root`, for each worker; None before the first.

    The others look for none and read none: they receive the leading one's, whatever storage they see.

    `accept` raises CheckpointError for one that this run cannot take up. Where any worker cannot, all of them raise
    CheckpointError, and name that worker.
    """
    state: dict[str, Any] = {}
    problem: CheckpointError | None = None
    try:
        if world.leads and (found := newest_checkpoint(root, keeper=keeper)):
            accept(*found)
            state = found[1]
    except CheckpointError as error:
        problem = error
    state = shared(state, world, device)
    path = checkpoint_at(root, state["step"]) if state else root
    try:
        if state and not world.leads:
            accept(path, state)
    except CheckpointError as error:
        problem = error
    problems = world.tell(str(problem or ""), device)
    if world.leads and problem:
        raise problem
    for rank, text in enumerate(problems):
        if text:
            raise CheckpointError(f"worker {rank} of {world.size} cannot resume as worker 0 does: {text}")
    return (path, state) if state else None


def shared(state: dict[str, Any], world: World, device: torch.device) -> dict[str, Any]:
    """The leading worker's state for each worker, bit by bit; those who receive it have its tensors on the host.

    A state nests as that of a checkpoint does. What the others give does not count. Waits for all workers.
    """
    if world.size == 1:
        return state
    told, tensors = packed(state) if world.leads else ("", {})
    told = world.spread(told.encode(), device).decode()
    content = world.spread(save(on_host(tensors)), device)
    return state if world.leads else unpacked(told, load(content))
