"""One image of a dataset and its mask, wherever they lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...models.decoding import PLAIN, Decoding
from .images import read_image, read_size
from .masks import MaskCoding, read_mask


class Sample(Protocol):
    """One image and, where there is one, its mask. Several threads may read it at a time.

    The arrays may be read-only.
    """

    @property
    def id(self) -> str:
        """Its name in the lists."""
        ...

    @property
    def has_mask(self) -> bool:
        """Whether there is a mask to read."""
        ...

    def read_size(self) -> tuple[int, int]:
        """Height and width of the image in pixels, without reading those. Raises ImageError."""
        ...

    def read_image(self) -> np.ndarray:
        """uint8 RGB [H, W, 3]. Raises ImageError."""
        ...

    def read_mask(self) -> np.ndarray | None:
        """Class ids [H, W], uint8 or, where ids or the ignore index exceed 255, int32. Raises ImageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class FileSample:
    """A sample in files of its own."""

    id: str
    image: Path
    mask: Path | None
    coding: MaskCoding = MaskCoding()
    """How the mask's file is read."""
    decoding: Decoding = PLAIN
    """How the image's file is, and whether a TIFF of either is turned."""

    @property
    def has_mask(self) -> bool:
        """Whether the mask has a file."""
        return self.mask is not None

    def read_size(self) -> tuple[int, int]:
        """From the image's header."""
        return read_size(self.image, self.decoding)

    def read_image(self) -> np.ndarray:
        """Decoded anew each time."""
        return read_image(self.image, self.decoding)

    def read_mask(self) -> np.ndarray | None:
        """Decoded anew each time."""
        return None if self.mask is None else read_mask(self.mask, self.coding, self.decoding)
