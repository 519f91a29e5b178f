"""What a GPU does to a batch, recorded as a CUDA graph and then replayed: the host no longer launches each kernel."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from .meter import Found
from .methods.method import Batch
from .speed import SpeedSettings

WARM_UP = 3
"""Times that a function runs before it is recorded: libraries then have their handles, workspaces and algorithms."""

Learn = Callable[[Batch, Tensor], Found]
"""Learns from a batch whose losses are means over so many pixels, and says what it found; all of it on the device."""
Run = Callable[[Learn, Batch, Tensor, Hashable], Found]
"""Calls such a function; what is hashable tells apart the ways that it goes through its code."""


def runner(speed: SpeedSettings) -> Run:
    """As the settings ask for it."""
    return Replay() if speed.graphs else _directly


def _directly(learn: Learn, batch: Batch, pixels: Tensor, way: Hashable) -> Found:
    return learn(batch, pixels)


@dataclass(frozen=True, kw_only=True)
class _Recording:
    """What a function did, and the memory on which it did so."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    pixels: Tensor
    found: Found

    @classmethod
    def of(cls, learn: Learn, batch: Batch, pixels: Tensor) -> Self:
        """A recording of a call, which is not made by that."""
        graph = torch.cuda.CUDAGraph()
        # Threads that draw batches may ask for pinned memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            found = learn(batch, pixels)
        return cls(graph=graph, batch=batch, pixels=pixels, found=found)

    def take_in(self, batch: Batch, pixels: Tensor) -> None:
        """Let the next replay be of other values."""
        self.pixels.copy_(pixels)
        for field in fields(Batch):
            if (fresh := getattr(batch, field.name)) is not None:
                getattr(self.batch, field.name).copy_(fresh)


class Replay:
    """Calls a function; on and on the same way, it replays what it recorded of it.

    What is replayed reads its batch from where the recorded one lay, adds to the same gradients, and leaves what it
    found where the recorded call left it, until the next call. Nothing in the function may look at a value on the host.
    """

    def __init__(self) -> None:
        self._way: Hashable = None
        self._calls = 0
        self._recording: _Recording | None = None

    def __call__(self, learn: Learn, batch: Batch, pixels: Tensor, way: Hashable) -> Found:
        """What `learn` finds."""
        if way != self._way:
            self._way, self._calls, self._recording = way, 0, None
        self._calls += 1
        if self._calls <= WARM_UP:
            return _beside(learn, batch, pixels)
        if self._recording is None:
            self._recording = _Recording.of(learn, batch, pixels)
        else:
            self._recording.take_in(batch, pixels)
        self._recording.graph.replay()
        return self._recording.found


def _beside(learn: Learn, batch: Batch, pixels: Tensor) -> Found:
    """On a stream of its own, as what is recorded has: autograd remembers streams."""
    ours, stream = torch.cuda.current_stream(), torch.cuda.Stream()
    stream.wait_stream(ours)
    with torch.cuda.stream(stream):
        found = learn(batch, pixels)
    ours.wait_stream(stream)
    return found
