"""The batches of a run, drawn on the host and brought to the training device."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from ..models.architectures import Normalisation
from .ahead import ahead
from .data.dataset import Dataset
from .data.strong import BOX, CHANNELS, show_strong
from .distributed import World
from .drawers import Drawers
from .drawing import Drawing, Drawn
from .methods.method import Batch, Wants
from .settings import DTYPES, TrainerSettings


class Batches:
    """A worker's share of every step's batch, as far as the method wants it."""

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
        self._normalised = normalisation.on(device, DTYPES[settings.precision])
        self._world = world
        self._device = device
        self._pinned = device.type == "cuda"
        self._drawing = Drawing(settings, dataset, world)

    def draw(self, step: int) -> list[Drawn]:
        """The share of each micro-batch of a step."""
        return self._drawing.draw(step, self._wants(step), pinned=self._pinned)

    def drawn_ahead(self, steps: range) -> Generator[list[Drawn]]:
        """What `draw` gives of each step, drawn while the caller works, as `trainer.speed` says. Close it after use."""
        speed = self._settings.speed
        if not speed.workers:
            yield from ahead(self.draw, steps, speed.prefetch)
            return
        with closing(Drawers(self._settings, self._dataset, self._world)) as drawers:

            def draw(step: int) -> list[Drawn]:
                drawn = drawers.draw(step, self._wants(step))
                return [each.pinned() for each in drawn] if self._pinned else drawn

            yield from ahead(draw, steps, max(speed.prefetch, speed.workers))

    def on_device(self, drawn: Sequence[Drawn]) -> list[Batch]:
        """What was drawn, as the networks read it; it may still be on its way."""
        return [self._moved(micro_batch) for micro_batch in drawn]

    def _moved(self, drawn: Drawn) -> Batch:
        parts = drawn.to(self._device).parts()
        unlabelled, strong = parts.get("unlabelled"), parts.get("strong")
        ids = {name: part.long() for name, part in parts.items() if name.endswith("labels")}
        return Batch(
            images=self._normalise(parts["images"], parts["valid"]),
            labels=ids["labels"],
            real_labels=ids.get("real_labels"),
            unlabelled=None if unlabelled is None else self._normalise(unlabelled, parts["unlabelled_valid"]),
            unlabelled_valid=parts.get("unlabelled_valid"),
            unlabelled_labels=ids.get("unlabelled_labels"),
            **({} if strong is None else self._strong(parts)),
            partners=parts.get("partners"),
        )

    def _strong(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a batch has of strong views, of which the first are this worker's own."""
        images = parts["unlabelled"].movedim(-1, 1).to(DTYPES[self._settings.precision])
        drawn, valid = parts["strong"].movedim(1, 0), parts["unlabelled_valid"]
        own = len(parts.get("partners", parts["strong"]))
        strong = (self._normalised(show_strong(images, valid, view)) * valid.unsqueeze(1) for view in drawn)
        return {
            "strong": torch.stack([*strong]),
            "boxes": drawn[:, :own, BOX],
            "channels": drawn[0, :own, CHANNELS].long(),
        }

    def _normalise(self, pixels: Tensor, valid: Tensor) -> Tensor:
        """Images [N, 3, H, W] as the network reads them, zero on padding, of pixels uint8 [N, H, W, 3]."""
        # Arithmetic by channel is several times faster on a CPU where each channel lies by itself.
        images = self._normalised(pixels.movedim(-1, 1).contiguous())
        images *= valid.unsqueeze(1)
        return images.contiguous(memory_format=self._settings.speed.memory_format)
