"""The workers that share one global batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch import distributed as dist

_CUT_OFF = ("gloo/transport", "ncclRemoteError")
_LONGEST_TEXT = 800
"""Of what workers tell each other, in bytes."""
_PIECE = 2**26
"""Bytes of what they receive that are on the device at a time."""


class Pending(Protocol):
    """Something that all workers do together."""

    def wait(self) -> object:
        """Wait for its end; on a GPU, let what comes next wait."""
        ...


@dataclass(frozen=True, kw_only=True)
class World:
    """This worker's place among `size` workers. Alone, every sum is the tensor itself."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this worker writes checkpoints and speaks to the outside."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The slots of 0 ... count - 1 that are this worker's; uneven shares are allowed."""
        return range(self.rank, count, self.size)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all workers, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def denominator(self, count: Tensor) -> Tensor:
        """A count over all workers, in place, at least 1: so an empty mean is 0 and never NaN."""
        return self.total(count).clamp(min=1)

    def smallest(self, tensor: Tensor) -> Tensor:
        """The elementwise minimum of a tensor over all workers, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MIN)
        return tensor

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any worker's flag is set. Waits for all workers and for the device."""
        return bool(self.total(torch.tensor(float(flag), device=device)))

    def tell(self, text: str, device: torch.device) -> list[str]:
        """What each worker has to say, by rank, cut to some hundred characters. Waits for all workers."""
        said = torch.zeros(self.size, _LONGEST_TEXT, dtype=torch.int32, device=device)
        letters = text.encode()[:_LONGEST_TEXT]
        said[self.rank, : len(letters)] = torch.tensor(list(letters), dtype=torch.int32, device=device)
        return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in self.total(said).tolist()]

    def spread(self, content: bytes, device: torch.device) -> bytes:
        """What the leading worker has, a byte at least; what the others give does not count. Waits for all workers."""
        if self.size == 1:
            return content
        length = torch.tensor(len(content), device=device)
        dist.broadcast(length, 0)
        received = torch.frombuffer(bytearray(content if self.leads else int(length)), dtype=torch.uint8)
        for part in received.split(_PIECE):
            there = part.to(device)
            dist.broadcast(there, 0)
            part.copy_(there)
        return content if self.leads else received.numpy().tobytes()

    def strayed(self, tensors: Iterable[Tensor], device: torch.device) -> list[int]:
        """The workers whose tensors, of 4 or 8 bytes a value, have other bits than those of the leading one.

        Told by the sum of all bits, 4 bytes at a time. Waits for all workers and for the device.
        """
        if self.size == 1:
            return []
        sums = torch.zeros(self.size, dtype=torch.int64, device=device)
        for tensor in tensors:
            sums[self.rank] += tensor.detach().flatten().view(torch.int32).sum().to(device)
        first, *others = self.total(sums).tolist()
        return [rank for rank, theirs in enumerate(others, 1) if theirs != first]

    def begin_total(self, tensor: Tensor) -> Pending | None:
        """`total`, begun beside what comes next, which must not touch the tensor before the end was waited for."""
        return dist.all_reduce(tensor, async_op=True) if self.size > 1 else None

    def mean_statistics(self, network: nn.Module) -> None:
        """Replace the running statistics that a network gathers in training by their means over all workers.

        Frozen batch norm, which stands in evaluation mode, gathers none.
        """
        if self.size == 1:
            return
        statistics = _statistics_of(network)
        _sum_together(statistics)
        for buffer in statistics:
            buffer /= self.size

    def own_statistics(self, network: nn.Module) -> Tensor | None:
        """The running statistics of each worker's network [workers, values]; None if they are the same."""
        if self.size == 1 or not (statistics := _statistics_of(network)):
            return None
        ours = torch.cat([buffer.flatten() for buffer in statistics])
        everyones = ours.new_zeros(self.size, len(ours))
        everyones[self.rank] = ours
        self.total(everyones)
        return everyones if (everyones != everyones[0]).any() else None

    def take_statistics(self, network: nn.Module, everyones: Tensor) -> None:
        """Give a network this worker's share of what `own_statistics` gave; other numbers of workers take the mean."""
        ours = everyones[self.rank] if len(everyones) == self.size else everyones.mean(0)
        statistics = _statistics_of(network)
        for buffer, values in zip(statistics, ours.split([b.numel() for b in statistics]), strict=True):
            buffer.copy_(values.view_as(buffer))

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.size > 1:
            dist.barrier()


def is_cut_off(error: BaseException) -> bool:
    """Whether a worker raises it that has lost its connection to another, which failed."""
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _CUT_OFF)


def _statistics_of(network: nn.Module) -> list[Tensor]:
    """What a network gathers in training, which frozen batch norm, in evaluation mode, does not."""
    gathering = (module for module in network.modules() if module.training)
    return [buffer for module in gathering for buffer in module.buffers(recurse=False) if buffer.is_floating_point()]


def _sum_together(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their sums over all workers, in one message."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
