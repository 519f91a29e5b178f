"""A worker's share of a step's batch on the host, the same in whatever thread or process it is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from .data.dataset import Dataset
from .data.masks import mask_dtype
from .data.samples import Sample
from .data.scaled import MOST_BYTES, ScaledSamples
from .data.streams import Stream
from .data.strong import StrongView
from .distributed import World
from .methods.method import Wants
from .settings import TrainerSettings

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of each part of a memory, by its name and in the order in which they lie there."""
_ALIGNED = 16
"""Bytes, of which each part's place is a multiple."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A worker's share of a micro-batch in one piece of memory, which travels as a whole."""

    layout: Layout
    """Images uint8 [N, H, W, 3]; what is valid, bool, and class ids, uint8 or int32, [N, H, W]; the numbers of strong
    views float32 [N, views, 11], and which image each is mixed with, int64 [N]."""
    memory: Tensor
    """uint8 [bytes]."""

    @classmethod
    def empty(cls, layout: Layout, *, pinned: bool) -> "Drawn":
        """Memory for parts; `pinned` is whether a GPU can copy from it while others work."""
        size = sum(_aligned(_bytes(*each)) for each in layout.values())
        return cls(layout=layout, memory=torch.empty(size, dtype=torch.uint8, pin_memory=pinned))

    def parts(self) -> dict[str, Tensor]:
        """Each part by its name, as a view."""
        parts, start = {}, 0
        for name, (dtype, shape) in self.layout.items():
            size = _bytes(dtype, shape)
            parts[name] = self.memory[start : start + size].view(dtype).view(shape)
            start += _aligned(size)
        return parts

    def pinned(self) -> "Drawn":
        """A copy from which a GPU can copy while others work."""
        copy = Drawn.empty(self.layout, pinned=True)
        # Torch would wake threads of its own for this.
        copy.memory.numpy()[...] = self.memory.numpy()
        return copy

    def to(self, device: torch.device) -> "Drawn":
        """On a device, as soon as it is needed there; nothing waits for it here."""
        return replace(self, memory=self.memory.to(device, non_blocking=True))


class Drawing:
    """The streams that a run's batches come from."""

    def __init__(self, settings: TrainerSettings, dataset: Dataset, world: World) -> None:
        self._settings = settings
        self._world = world
        highest = max(dataset.ignore_index, len(dataset.classes) - 1)
        self._ids = torch.uint8 if mask_dtype(highest) is np.uint8 else torch.int32
        scaled = ScaledSamples(settings.resize, MOST_BYTES // max(1, settings.speed.workers))

        def stream(samples: Sequence[Sample], split: str, batch_size: int) -> Stream:
            return Stream(
                samples,
                digest=dataset.digest,
                split=split,
                seed=settings.seed,
                batch_size=batch_size,
                augmentation=settings.augmentation,
                ignore_index=dataset.ignore_index,
                scaled=scaled,
            )

        self._labelled = stream(dataset.labelled, "labelled", settings.batch_size)
        self._real = stream(dataset.labelled, "real", settings.batch_size)
        unlabelled = settings.accumulation * settings.unlabelled_micro_batch_size
        self._unlabelled = stream(dataset.unlabelled, "unlabelled", unlabelled)

    def draw(self, step: int, wants: Wants, *, pinned: bool = False) -> list[Drawn]:
        """The share of each micro-batch of a step, as far as it is wanted. Raises ImageError and what packs raise."""
        return [self._drawn(step, number, wants, pinned) for number in range(self._settings.accumulation)]

    def _drawn(self, step: int, number: int, wants: Wants, pinned: bool) -> Drawn:
        """The share of a micro-batch, by its number from 0."""
        slots = self._slots(number, self._settings.micro_batch_size)
        size = self._settings.unlabelled_micro_batch_size
        own = self._slots(number, size)
        partners = [(2 * number + 1) * size - 1 - slot for slot in own]
        shown = [*own, *(slot for slot in partners if wants.partners and slot not in own)]
        drawn = Drawn.empty(self._layout(len(slots), len(own), len(shown), wants), pinned=pinned)
        parts = drawn.parts()
        self._labelled.draw(step, slots, parts["images"], parts["valid"], parts["labels"])
        if wants.real:
            self._real.draw_labels(step, slots, parts["real_labels"])
        if wants.unlabelled:
            labels = parts.get("unlabelled_labels")
            self._unlabelled.draw(step, shown, parts["unlabelled"], parts["unlabelled_valid"], labels)
        if wants.strong:
            self._unlabelled.draw_strong(step, shown, wants.strong, parts["strong"])
        if wants.partners:
            parts["partners"].numpy()[...] = [shown.index(slot) for slot in partners]
        return drawn

    def _slots(self, number: int, size: int) -> list[int]:
        """This worker's slots in a micro-batch of this number and size."""
        return [number * size + slot for slot in self._world.share(size)]

    def _layout(self, count: int, own: int, shown: int, wants: Wants) -> Layout:
        """Of so many labelled images, and so many unlabelled ones, own and with partners."""
        crop = self._settings.augmentation.crop
        ids = self._ids, (count, *crop)
        layout = {"images": (torch.uint8, (count, *crop, 3)), "valid": (torch.bool, (count, *crop)), "labels": ids}
        if wants.real:
            layout |= {"real_labels": ids}
        if wants.unlabelled:
            layout |= {"unlabelled": (torch.uint8, (shown, *crop, 3)), "unlabelled_valid": (torch.bool, (shown, *crop))}
        if wants.unlabelled_labels:
            layout |= {"unlabelled_labels": (self._ids, (own, *crop))}
        if wants.strong:
            layout |= {"strong": (torch.float32, (shown, len(wants.strong), len(fields(StrongView))))}
        if wants.partners:
            layout |= {"partners": (torch.int64, (own,))}
        return layout


def _bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
