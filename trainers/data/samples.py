"""One image of a dataset and its mask, wherever they lie."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .images import MaskCoding, read_image, read_mask


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and, where there is one, its mask."""

    id: str
    image: Path
    mask: Path | None
    coding: MaskCoding = MaskCoding()
    """How the mask's file is read."""

    def read_image(self) -> np.ndarray:
        """uint8 RGB [H, W, 3]. Raises ImageError."""
        return read_image(self.image)

    def read_mask(self) -> np.ndarray | None:
        """Class ids [H, W], uint8 or, where ids or the ignore index exceed 255, int32. Raises ImageError."""
        return None if self.mask is None else read_mask(self.mask, self.coding)
