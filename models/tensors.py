"""Tensors in safetensors files: written, and read though nobody vouches for them."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .files import one_line
from .manifest import BrokenDirectoryError

_FLOATS = ("F16", "BF16", "F32", "F64")
_WHOLE = ("I64",)
_VALUE_BYTES = 8
"""Of the widest of these types."""
_HEADER_BYTES = 2**20
"""Far more than the names and shapes of a network's tensors take."""
_VARIANCE = "running_var"
_SHOWN = 3

Network = TypeVar("Network", bound=nn.Module)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors by name. Raises OSError, for a full disk among others, as for any other file."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        if (found := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from None


def most_bytes(build: Callable[[], nn.Module]) -> int:
    """What a file of the weights of the network that `build` makes has at most."""
    with torch.device("meta"):
        tensors = build().state_dict().values()
    return _HEADER_BYTES + sum(tensor.numel() * _VALUE_BYTES for tensor in tensors)


def load_network(build: Callable[[], Network], path: Path) -> Network:
    """The network that `build` makes with the weights of a file, in evaluation mode on the CPU.

    It takes memory once the file is known to hold its tensors, in their shapes. Raises BrokenDirectoryError unless
    the file does, all of them finite.
    """
    with torch.device("meta"):
        network = build()
    try:
        _refuse_others(network.state_dict(), _header(path), path)
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BrokenDirectoryError(f"{path} is damaged, or no safetensors file ({one_line(error)})") from None
    if network.state_dict().keys() >= {name for name, _ in network.named_buffers()}:
        network.to_empty(device="cpu")
    else:
        # What is in no state is computed where a network is built.
        with torch.random.fork_rng(devices=[]):
            network = build()
    network.load_state_dict(state)
    _refuse_values(network.state_dict(), path)
    return network.eval()


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor in a file."""
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (found.get_dtype(), tuple(found.get_shape())) for name, found in slices.items()}


def _refuse_others(ours: dict[str, Tensor], theirs: dict[str, tuple[str, tuple[int, ...]]], path: Path) -> None:
    """Raise BrokenDirectoryError unless a file holds a network's tensors and no others."""
    shared = {name: (tensor, *theirs[name]) for name, tensor in ours.items() if name in theirs}
    shapes = [
        f"{name} {list(found)} for {list(own.shape)}" for name, (own, _, found) in shared.items() if found != own.shape
    ]
    types = [
        f"{name} {kind}"
        for name, (own, kind, _) in shared.items()
        if kind not in (_FLOATS if own.is_floating_point() else _WHOLE)
    ]
    kinds = {
        "lacks": [name for name in ours if name not in theirs],
        "has other tensors than the network:": [name for name in theirs if name not in ours],
        "has tensors of other shapes than the network:": shapes,
        "has tensors of other types than the network:": types,
    }
    for what, names in kinds.items():
        if names:
            raise BrokenDirectoryError(f"{path} {what} {_some(names)}")


def _refuse_values(state: dict[str, Tensor], path: Path) -> None:
    """Raise BrokenDirectoryError for values that make predictions of nothing."""
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise BrokenDirectoryError(f"{path} holds NaN or infinity in {_some(broken)}")
    if broken := [name for name, tensor in state.items() if name.endswith(_VARIANCE) and (tensor < 0).any()]:
        raise BrokenDirectoryError(f"{path} holds negative variances in {_some(broken)}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name[:100] for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
