"""Samples at the size at which a network reads them."""

from collections.abc import Callable
from threading import Lock

import numpy as np

from ...models.resize import Resize, size_of
from .resize import Size, resize_image, resize_mask
from .samples import Sample

MOST_BYTES = 2**29


class ScaledSamples:
    """What became smaller is kept, as far as memory goes: a photograph takes longer to decode than a step computes."""

    def __init__(self, resize: Resize | None, most_bytes: int = MOST_BYTES) -> None:
        self._resize = resize
        self._left = most_bytes
        self._kept: dict[tuple[str, str], np.ndarray] = {}
        self._lock = Lock()

    def image(self, sample: Sample) -> np.ndarray:
        """uint8 RGB [H, W, 3]; it may be read-only."""
        return self._scaled(("image", sample.id), sample.read_image, resize_image)

    def mask(self, sample: Sample) -> np.ndarray | None:
        """Class ids [H, W], if there is a mask; they may be read-only."""
        return self._scaled(("mask", sample.id), sample.read_mask, resize_mask) if sample.has_mask else None

    def _scaled(
        self,
        key: tuple[str, str],
        read: Callable[[], np.ndarray | None],
        scale: Callable[[np.ndarray, Size], np.ndarray],
    ) -> np.ndarray:
        if (kept := self._kept.get(key)) is not None:
            return kept
        array = read()
        assert array is not None
        scaled = scale(array, size_of(self._resize, array.shape[:2]))
        with self._lock:
            if scaled.size < array.size and scaled.nbytes <= self._left and key not in self._kept:
                scaled.flags.writeable = False
                self._kept[key] = scaled
                self._left -= scaled.nbytes
        return scaled
