"""The workers that share one global batch."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


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

    def smallest(self, tensor: Tensor) -> Tensor:
        """The elementwise minimum of a tensor over all workers, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MIN)
        return tensor

    def total_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over all workers, in one message."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.size > 1:
            dist.barrier()
