"""How the pixels of image files become those that networks read, where files leave a choice."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

HIGHEST = 65535
"""Of 16 bits, the most that a channel has."""

Orientation = Literal["exif", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What is made of images with more than 8 bits a channel, and of what an image says of how it lies."""

    scale: tuple[int, int] | None = None
    """The values of more than 8 bits that become 0 and 255; None: such images are refused."""
    orientation: Orientation = "exif"
    """Whether images are turned as their EXIF or XMP data say, or left as their pixels lie."""

    def __post_init__(self) -> None:
        if self.scale and not 0 <= self.scale[0] < self.scale[1] <= HIGHEST:
            raise ValueError(f"scale must rise from 0 or more to {HIGHEST} or less, but is {list(self.scale)}")

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values of up to 16 bits as uint8: linear between those of `scale`, halves rounded up, cut at 0 and 255."""
        assert self.scale
        low, high = self.scale
        above = values.astype(np.int64).clip(low, high) - low
        return ((2 * 255 * above + (high - low)) // (2 * (high - low))).astype(np.uint8)


PLAIN = Decoding()
"""Upright, and of 8 bits."""
