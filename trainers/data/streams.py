"""Batches as a pure function of (dataset digest, split, seed, step, slot).

Nothing is drawn from a global or advancing random state, so a run that resumes needs only its step,
and any division of the slots among workers shows the same pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .augment import AugmentationSettings, View, draw_view, show_image, show_mask, show_validity
from .draws import Draws, key_of
from .samples import Sample
from .scaled import ScaledSamples

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
        pinned: bool = False,
    ) -> None:
        """`scaled` reads samples at the size that they are augmented at; several streams may share it.

        `pinned` is whether crops lie in memory that a GPU copies from while others work.
        """
        self._samples = samples
        self._draws = key_of(digest, split, seed, "draws")
        self._orders = key_of(digest, split, seed, "orders")
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._ignore_index = ignore_index
        self._scaled = scaled
        self._pinned = pinned
        self._order = lru_cache(maxsize=2)(self._order_of)

    def crops(self, step: int, slots: Sequence[int]) -> Crops:
        """The samples in some slots (from 0 to batch size - 1) of the batch of a step."""
        labels = self._no_labels(len(slots))
        images, valid = self._blank((*labels.shape, 3), torch.uint8), self._blank(labels.shape, torch.bool)
        for place, (image, mask, view) in enumerate(self._drawn(step, slots)):
            show_image(image, view, images[place].numpy())
            show_validity(view, valid[place].numpy())
            if mask is not None:
                show_mask(mask, view, labels[place].numpy())
        return Crops(images=images.permute(0, 3, 1, 2), labels=labels, valid=valid)

    def labels(self, step: int, slots: Sequence[int]) -> Tensor:
        """The labels of `crops` alone, on the host; the samples must have masks, and no image is read."""
        labels = self._no_labels(len(slots))
        for place, slot in enumerate(slots):
            sample, rng = self._draw(step, slot)
            mask = self._scaled.mask(sample)
            assert mask is not None
            show_mask(mask, draw_view(mask.shape, self._augmentation, rng), labels[place].numpy())
        return labels

    def _drawn(self, step: int, slots: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray | None, View]]:
        """Image, mask if there is one, and what to show of them."""
        for slot in slots:
            sample, rng = self._draw(step, slot)
            image = self._scaled.image(sample)
            yield image, self._scaled.mask(sample), draw_view(image.shape[:2], self._augmentation, rng)

    def _no_labels(self, count: int) -> Tensor:
        return self._blank((count, *self._augmentation.crop), torch.int32, self._ignore_index)

    def _blank(self, shape: Sequence[int], dtype: torch.dtype, value: int = 0) -> Tensor:
        blank = torch.empty(*shape, dtype=dtype, pin_memory=self._pinned)
        # Torch would wake threads of its own for this, in each thread that draws.
        blank.numpy().fill(value)
        return blank

    def _draw(self, step: int, slot: int) -> tuple[Sample, Draws]:
        epoch, place = divmod(step * self._batch_size + slot, len(self._samples))
        rng = Draws(self._draws, [0, 0, slot, step])
        return self._samples[self._order(epoch)[place]], rng

    def _order_of(self, epoch: int) -> np.ndarray:
        return Draws(self._orders, [0, 0, 0, epoch]).permutation(len(self._samples))
