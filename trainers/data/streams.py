"""Batches as a pure function of (dataset digest, split, seed, step, slot).

Nothing is drawn from a global or advancing random state, so a run that resumes needs only its step,
and any division of the slots among workers shows the same pixels.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .augment import AugmentationSettings, augment
from .dataset import Sample
from .images import mask_dtype
from .resize import resize_image, resize_mask


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Augmented samples of one split."""

    images: Tensor
    """uint8 RGB [N, 3, H, W]; black where not valid."""
    labels: Tensor
    """int64 [N, H, W]; the ignore index on padding and wherever there is no mask."""
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
        resize: tuple[int, int] | None,
    ) -> None:
        """`resize` is the height and width that images and masks are brought to before augmentation."""
        self._samples = samples
        self._draws = _key(digest, split, seed, "draws")
        self._orders = _key(digest, split, seed, "orders")
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._ignore_index = ignore_index
        self._resize = resize
        self._order = lru_cache(maxsize=2)(self._order_of)

    def crops(self, step: int, slots: Iterable[int]) -> Crops:
        """The samples in some slots (from 0 to batch size - 1) of the batch of a step."""
        drawn = [self._draw(step, slot) for slot in slots]
        images, labels, valid = (np.stack(parts) for parts in zip(*drawn, strict=True))
        return Crops(
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            labels=torch.from_numpy(labels).long(),
            valid=torch.from_numpy(valid),
        )

    def _draw(self, step: int, slot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        epoch, place = divmod(step * self._batch_size + slot, len(self._samples))
        sample = self._samples[self._order(epoch)[place]]
        image, mask = sample.read_image(), sample.read_mask()
        if mask is None:
            mask = np.full(image.shape[:2], self._ignore_index, mask_dtype(self._ignore_index))
        if self._resize:
            image, mask = resize_image(image, self._resize), resize_mask(mask, self._resize)
        rng = np.random.Generator(np.random.Philox(key=self._draws, counter=[0, 0, slot, step]))
        return augment(image, mask, self._augmentation, self._ignore_index, rng)

    def _order_of(self, epoch: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=self._orders, counter=[0, 0, 0, epoch]))
        return rng.permutation(len(self._samples))


def _key(*parts: str | int) -> list[int]:
    """A key of the counter-based generator (Philox, Salmon et al. 2011): two 64-bit words."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")]
