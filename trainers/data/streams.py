"""Batches as a pure function of (dataset digest, split, seed, step, slot).

Nothing is drawn from a global or advancing random state, so a run that resumes needs only its step,
and any division of the slots among workers shows the same pixels.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .augment import AugmentationSettings, draw_view, show_image, show_mask, show_validity
from .draws import Draws, key_of
from .samples import Sample
from .scaled import ScaledSamples
from .strong import StrongSettings, draw_strong

DRAWS = 2
"""Version of what a stream shows for the same key; a run that began with another one does not go on with this."""


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Augmented samples of one split."""

    images: Tensor
    """uint8 RGB [N, 3, H, W]; black where not valid."""
    labels: Tensor
    """int32 [N, H, W]; the ignore index on padding and wherever there is no mask."""
    valid: Tensor
    """bool [N, H, W]; False on padding."""


class Stream:
    """An endless, seekable stream of augmented samples; every epoch shows each sample once, in a new order."""

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        digest: str,
        split: str,
        seed: int,
        batch_size: int,
        augmentation: AugmentationSettings,
        ignore_index: int,
        scaled: ScaledSamples,
    ) -> None:
        """`scaled` reads samples at the size that they are augmented at; several streams may share it."""
        self._samples = samples
        self._draws = key_of(digest, split, seed, "draws")
        self._orders = key_of(digest, split, seed, "orders")
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._ignore_index = ignore_index
        self._scaled = scaled
        self._order = lru_cache(maxsize=2)(self._order_of)

    def crops(self, step: int, slots: Sequence[int]) -> Crops:
        """The samples in some slots (from 0 to batch size - 1) of the batch of a step."""
        shape = (len(slots), *self._augmentation.crop)
        images, valid = torch.empty(*shape, 3, dtype=torch.uint8), torch.empty(shape, dtype=torch.bool)
        labels = torch.empty(shape, dtype=torch.int32)
        self.draw(step, slots, images, valid, labels)
        return Crops(images=images.movedim(-1, 1), labels=labels, valid=valid)

    def draw(self, step: int, slots: Sequence[int], images: Tensor, valid: Tensor, labels: Tensor | None) -> None:
        """Put them into images [N, H, W, 3], what is valid and labels of any type for ids; without, no mask is read.

        There may be fewer labels: those of the first slots.
        """
        # Torch would wake threads of its own for this, in each thread that draws.
        images.numpy().fill(0)
        valid.numpy().fill(False)
        if labels is not None:
            labels.numpy().fill(self._ignore_index)
        for place, slot in enumerate(slots):
            sample, rng = self._sample(step, slot)
            image = self._scaled.image(sample)
            view = draw_view(image.shape[:2], self._augmentation, rng)
            show_image(image, view, images[place].numpy())
            show_validity(view, valid[place].numpy())
            if labels is not None and place < len(labels) and (mask := self._scaled.mask(sample)) is not None:
                show_mask(mask, view, labels[place].numpy())

    def draw_labels(self, step: int, slots: Sequence[int], labels: Tensor) -> None:
        """Put the labels of `crops` alone into [N, H, W]; the samples must have masks, and no image is read."""
        labels.numpy().fill(self._ignore_index)
        for place, slot in enumerate(slots):
            sample, rng = self._sample(step, slot)
            mask = self._scaled.mask(sample)
            assert mask is not None
            show_mask(mask, draw_view(mask.shape, self._augmentation, rng), labels[place].numpy())

    def draw_strong(self, step: int, slots: Sequence[int], views: Sequence[StrongSettings], drawn: Tensor) -> None:
        """Put the numbers of strong views of what `crops` shows into float32 [N, views, 11]; no image is read."""
        for place, slot in enumerate(slots):
            for view, settings in enumerate(views):
                # What a crop shows is view 0 and has a counter of its own, and so has every other.
                rng = Draws(self._draws, [0, 1 + view, slot, step])
                drawn[place, view].numpy()[...] = astuple(draw_strong(settings, self._augmentation.crop, rng))

    def _sample(self, step: int, slot: int) -> tuple[Sample, Draws]:
        epoch, place = divmod(step * self._batch_size + slot, len(self._samples))
        rng = Draws(self._draws, [0, 0, slot, step])
        return self._samples[self._order(epoch)[place]], rng

    def _order_of(self, epoch: int) -> np.ndarray:
        return Draws(self._orders, [0, 0, 0, epoch]).permutation(len(self._samples))
