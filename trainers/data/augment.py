"""Augmentation as a pure function of a generator: scale, crop, mirror, turn, colour. What is off draws nothing."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ...models.settings import Interval, Settings
from .jitter import JitterSettings, jitter
from .resize import resize_image, resize_mask

_Factor = Annotated[float, Interval(0, 10, open_low=True)]


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings(Settings):
    """What is drawn anew for every image of every batch."""

    crop: tuple[Annotated[int, Interval(1)], Annotated[int, Interval(1)]]
    """Height and width in pixels. A smaller image is padded; padding counts nowhere."""
    scale: tuple[_Factor, _Factor] = (1.0, 1.0)
    """Lowest and highest factor of height and width before the crop, drawn uniformly; the paper's are 0.5, 1.5."""
    mirror: bool = True
    rotate: bool = False
    """Turn by a multiple of 90 degrees; for scenes without an up and down. Asks for a square crop."""
    jitter: JitterSettings = JitterSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be a lowest and a highest factor, but is {self.scale[0]}, {self.scale[1]}")
        if self.rotate and self.crop[0] != self.crop[1]:
            raise ValueError(f"rotate needs a square crop, but crop is {self.crop[0]} x {self.crop[1]}")


def augment(
    image: np.ndarray,
    mask: np.ndarray,
    settings: AugmentationSettings,
    ignore_index: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image uint8 [h, w, 3], mask uint8 or int32 [h, w] and validity bool [h, w] of the crop, from ones of any size.

    Padding is black, has the ignore index as its mask and is not valid.
    """
    height, width = settings.crop
    if settings.scale != (1.0, 1.0):
        factor = rng.uniform(*settings.scale)
        size = (max(1, round(factor * mask.shape[0])), max(1, round(factor * mask.shape[1])))
        image, mask = resize_image(image, size), resize_mask(mask, size)
    valid = np.ones(mask.shape, bool)
    missing = [(0, max(0, height - mask.shape[0])), (0, max(0, width - mask.shape[1]))]
    if any(after for _, after in missing):
        image = np.pad(image, [*missing, (0, 0)])
        mask = np.pad(mask, missing, constant_values=ignore_index)
        valid = np.pad(valid, missing)
    top = rng.integers(mask.shape[0] - height + 1)
    left = rng.integers(mask.shape[1] - width + 1)
    window = np.s_[top : top + height, left : left + width]
    image, mask, valid = image[window], mask[window], valid[window]
    if settings.mirror and rng.random() < 0.5:
        image, mask, valid = image[:, ::-1], mask[:, ::-1], valid[:, ::-1]
    if settings.rotate:
        turns = int(rng.integers(4))
        image, mask, valid = np.rot90(image, turns), np.rot90(mask, turns), np.rot90(valid, turns)
    if settings.jitter != JitterSettings():
        image = image.copy()
        image[valid] = jitter(image[valid], settings.jitter, rng)
    return image, mask, valid
