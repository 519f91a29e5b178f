"""What a GPU does to a batch, recorded as a CUDA graph and then replayed: the host no longer launches each kernel."""

from collections.abc import Callable, Hashable
from dataclasses import fields

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


class Replay:
    """Calls a function; on and on the same way, it replays what it recorded of it.

    What is replayed reads its batch from where the recorded one lay, adds to the same gradients, and leaves what it
    found where the recorded call left it, until the next call. Nothing in the function may look at a value on the host.
    """

    def __init__(self) -> None:
        self._way: Hashable = None
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._pixels: Tensor | None = None
        self._found = Found()

    def __call__(self, learn: Learn, batch: Batch, pixels: Tensor, way: Hashable) -> Found:
        """What `learn` finds."""
        if way != self._way:
            self._way, self._calls, self._graph = way, 0, None
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._beside(learn, batch, pixels)
        if self._graph is None:
            self._record(learn, batch, pixels)
        else:
            self._take_in(batch, pixels)
        assert self._graph is not None
        self._graph.replay()
        return self._found

    @staticmethod
    def _beside(learn: Learn, batch: Batch, pixels: Tensor) -> Found:
        """On a stream of its own, as what is recorded has: autograd remembers streams."""
        ours, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(ours)
        with torch.cuda.stream(stream):
            found = learn(batch, pixels)
        ours.wait_stream(stream)
        return found

    def _record(self, learn: Learn, batch: Batch, pixels: Tensor) -> None:
        self._batch, self._pixels = batch, pixels
        graph = torch.cuda.CUDAGraph()
        # Threads that draw batches may ask for pinned memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._found = learn(batch, pixels)
        self._graph = graph

    def _take_in(self, batch: Batch, pixels: Tensor) -> None:
        assert self._batch is not None and self._pixels is not None
        self._pixels.copy_(pixels)
        for field in fields(Batch):
            if (fresh := getattr(batch, field.name)) is not None:
                getattr(self._batch, field.name).copy_(fresh)
