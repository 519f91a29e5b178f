"""The batches of a run, drawn on the host and brought to the training device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.architectures import Normalisation
from .data.dataset import Dataset
from .data.samples import Sample
from .data.scaled import ScaledSamples
from .data.streams import Crops, Stream
from .distributed import World
from .methods.method import Batch, Wants
from .settings import DTYPES, TrainerSettings


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A worker's share of a micro-batch, before it is on the training device."""

    labelled: Crops
    real: Tensor | None
    unlabelled: Crops | None


class Batches:
    """A worker's share of every step's batch; each the same whenever and in whatever thread it is asked for."""

    def __init__(
        self,
        settings: TrainerSettings,
        dataset: Dataset,
        wants: Callable[[int], Wants],
        normalisation: Normalisation,
        *,
        world: World,
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._dataset = dataset
        self._wants = wants
        self._normalisation = normalisation
        self._world = world
        self._device = device
        self._scaled = ScaledSamples(settings.resize)
        self._labelled = self._stream(dataset.labelled, "labelled")
        self._real = self._stream(dataset.labelled, "real")
        self._unlabelled = self._stream(dataset.unlabelled, "unlabelled")

    def draw(self, step: int) -> list[Drawn]:
        """The share of each micro-batch of a step, as far as the method wants it."""
        size = self._settings.micro_batch_size
        starts = range(0, self._settings.batch_size, size)
        return [self._drawn(step, [start + slot for slot in self._world.share(size)]) for start in starts]

    def on_device(self, drawn: Sequence[Drawn]) -> list[Batch]:
        """What was drawn, as the networks read it; it may still be on its way."""
        return [self._moved(micro_batch) for micro_batch in drawn]

    def _stream(self, samples: tuple[Sample, ...], split: str) -> Stream:
        settings = self._settings
        return Stream(
            samples,
            digest=self._dataset.digest,
            split=split,
            seed=settings.seed,
            batch_size=settings.batch_size,
            augmentation=settings.augmentation,
            ignore_index=self._dataset.ignore_index,
            scaled=self._scaled,
            pinned=self._device.type == "cuda",
        )

    def _drawn(self, step: int, slots: Sequence[int]) -> Drawn:
        wants = self._wants(step)
        return Drawn(
            labelled=self._labelled.crops(step, slots),
            real=self._real.labels(step, slots) if wants.real else None,
            unlabelled=self._unlabelled.crops(step, slots) if wants.unlabelled else None,
        )

    def _moved(self, drawn: Drawn) -> Batch:
        labelled, real, unlabelled = drawn.labelled, drawn.real, drawn.unlabelled
        return Batch(
            images=self._normalise(labelled),
            labels=self._ids(labelled.labels),
            real_labels=None if real is None else self._ids(real),
            unlabelled=self._normalise(unlabelled) if unlabelled else None,
            unlabelled_valid=self._there(unlabelled.valid) if unlabelled else None,
            unlabelled_labels=self._ids(unlabelled.labels) if unlabelled else None,
        )

    def _normalise(self, crops: Crops) -> Tensor:
        """Images as the network reads them, zero on padding."""
        # Arithmetic by channel is several times faster on a CPU where each channel lies by itself.
        images = self._normalisation(self._there(crops.images).contiguous(), DTYPES[self._settings.precision])
        images *= self._there(crops.valid).unsqueeze(1)
        return images.contiguous(memory_format=self._settings.speed.memory_format)

    def _ids(self, labels: Tensor) -> Tensor:
        return self._there(labels).long()

    def _there(self, tensor: Tensor) -> Tensor:
        """A tensor on the training device, as soon as it is needed there; nothing waits for it here."""
        return tensor.to(self._device, non_blocking=True)
