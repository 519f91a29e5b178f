"""How the same training is computed in less time or memory: every switch there is."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..models.settings import Interval, Settings
from .errors import UserError

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class SpeedSettings(Settings):
    """Ways to compute a step. Unless they say otherwise, they give the plain step's results but for rounding.

    What changes results is off by default, and so is what costs memory or a long start.
    """

    autocast: Literal["bfloat16"] | None = None
    """Changes results: networks compute in bfloat16, of 8 significant bits; weights, losses and sums stay float32.
    Twice as fast where the hardware knows it (GPUs since Ampere, CPUs with AVX512-BF16 or AMX), slower elsewhere."""
    channels_last: bool = True
    """Keep images and weights with the channels of a pixel side by side, as fast convolutions want them."""
    fused_optimizers: bool = True
    """Update all weights in one pass over memory."""
    joint_forward: bool = False
    """Send labelled and unlabelled images through the segmenter together, which takes more memory and suits small
    images; for networks that do not mix images of a batch: `compact`, or frozen batch norm."""
    recompute: bool = False
    """Activation checkpointing (Chen et al., 2016): keep the blocks' inputs alone and compute their insides again in
    the backward pass. A third more time for less memory."""
    compile: bool = False
    """Compile the segmenter's training step with torch.compile, which takes minutes at the start; for GPUs."""
    graphs: bool = False
    """Record what a step does on a GPU as a CUDA graph and replay it, for steps whose many kernels the host launches
    more slowly than the GPU runs them. For one worker."""
    prefetch: Annotated[int, Interval(0, 64)] = 2
    """Threads that draw coming batches while a step computes, and read the next images of an evaluation. 0: each batch
    is drawn, and each image read, when it is needed."""
    workers: Annotated[int, Interval(0, 64)] = 0
    """Processes that draw coming batches, where threads do not keep up; at least as many batches lie ahead. Each takes
    seconds to start and about 0.3 GiB. 0: the threads of `prefetch` draw."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile and self.recompute:
            raise ValueError("compile and recompute exclude each other: what is compiled recomputes what it sees fit")

    @property
    def memory_format(self) -> torch.memory_format:
        """In which order images and weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def arrange(self, network: Network) -> Network:
        """A network with its weights in that order."""
        return network.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]: torch's stubs lack it

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which networks compute on a device."""
        return nullcontext() if self.autocast is None else torch.autocast(device.type, torch.bfloat16)


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A network's forward pass, compiled when it is first called; the network itself stays as it is.

    Raises UserError on a CPU without a C++ compiler.
    """
    compilers = os.environ.get("CXX", "g++"), "g++", "clang++"
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise UserError("trainer.speed.compile needs a C++ compiler on a CPU: install g++, or set it to false")
    # Whoever called the network in another way before, as an evaluation, must not count as a reason to compile anew.
    return torch.compile(network, dynamic=False)


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Make blocks drop what they compute in the forward pass and compute it again in the backward pass."""
    for block in blocks:
        block.forward = partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    kept = partial(forward, **options)
    contexts = partial(_contexts, block)
    return checkpoint(kept, *inputs, use_reentrant=False, context_fn=contexts, preserve_rng_state=False)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norm that sees its batch a second time does not count it again."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Synchronised batch norm insists on counting: it may count on a copy.
        count = norm.num_batches_tracked
        norm.momentum, norm.num_batches_tracked = 0.0, None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
