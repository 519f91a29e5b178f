"""A mask over its image, and which colour is which class."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .legend import with_legend
from .panels import colour


def draw_overlay(
    image: np.ndarray, mask: np.ndarray, classes: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """Image uint8 RGB [H, W, 3] and the colours of class ids [H, W], half and half, above the classes there."""
    blended = Image.blend(Image.fromarray(image), Image.fromarray(colour(mask, palette)), 0.5)
    return with_legend(blended, classes, palette, map(int, np.unique(mask)))
