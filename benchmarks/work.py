"""How much work a program is, counted and not timed, and how fast this machine moves bytes at best."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from advseg.trainers.work import best_seconds


@dataclass(kw_only=True)
class Work:
    """Work of convolutions and matrix products, and what all operations read and write if none is fused."""

    flops: int = 0
    """Additions and multiplications, each counted."""
    moved: int = 0
    """Bytes."""


class _Bytes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


@contextmanager
def counted() -> Iterator[Work]:
    """Count what is done within, which may be on the meta device, where it costs nothing."""
    work, moved = Work(), _Bytes()
    with FlopCounterMode(display=False) as flops, moved:
        yield work
    work.flops, work.moved = flops.get_total_flops(), moved.total


def copy_rate(device: torch.device) -> float:
    """Bytes/s that are read and written when a large tensor is copied, the best of several."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / best_seconds(lambda: target.copy_(source), device)
