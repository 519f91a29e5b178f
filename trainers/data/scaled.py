"""Samples at the size at which a network reads them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from ...models.resize import LongerSide, Resize, size_of
from .dataset import Dataset
from .resize import Size, resize_image, resize_mask
from .samples import Sample

MOST_BYTES = 2**29


class ScaledSamples:
    """What became smaller is kept, as far as memory goes: a photograph takes longer to decode than a step computes."""

    def __init__(self, resize: Resize | None, most_bytes: int = MOST_BYTES) -> None:
        self.resize = resize
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
        scaled = scale(array, size_of(self.resize, array.shape[:2]))
        with self._lock:
            if scaled.size < array.size and scaled.nbytes <= self._left and key not in self._kept:
                scaled.flags.writeable = False
                self._kept[key] = scaled
                self._left -= scaled.nbytes
        return scaled


@dataclass(frozen=True, kw_only=True)
class ResizedSample:
    """A sample as a network reads it in training."""

    original: Sample
    scaled: ScaledSamples = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The original's."""
        return self.original.id

    @property
    def has_mask(self) -> bool:
        """The original's."""
        return self.original.has_mask

    def read_size(self) -> tuple[int, int]:
        """After scaling."""
        return size_of(self.scaled.resize, self.original.read_size())

    def read_image(self) -> np.ndarray:
        """Scaled anew each time."""
        return self.scaled.image(self.original)

    def read_mask(self) -> np.ndarray | None:
        """Scaled anew each time."""
        return self.scaled.mask(self.original)


def resized(dataset: Dataset, resize: Resize) -> Dataset:
    """A dataset whose training images are as a training of this `resize` reads them; those that judge it stay."""
    scaled = ScaledSamples(resize, most_bytes=0)
    labelled, unlabelled = (
        tuple(ResizedSample(original=sample, scaled=scaled) for sample in samples)
        for samples in (dataset.labelled, dataset.unlabelled)
    )
    return replace(dataset, labelled=labelled, unlabelled=unlabelled, resized=resize)


def other_resize(packed: Resize | None, resize: Resize | None) -> str:
    """Why a training of this `resize` cannot read images that are scaled by another, with a remedy; empty if it can."""
    if packed in (None, resize):
        return ""
    return (
        f"the pack holds training images at trainer.resize {shown_resize(packed)}, but here it is "
        f"{shown_resize(resize)}: restore it, or write another pack by `advseg data pack`"
    )


def shown_resize(resize: Resize | None) -> str:
    """As a spec has it."""
    match resize:
        case None:
            return "null"
        case LongerSide():
            return f"{{longer: {resize.longer}, multiple: {resize.multiple}}}"
        case height, width:
            return f"[{height}, {width}]"
