"""A mask over its image, and which colour is which class."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .lettering import INK, LONGEST_NAME, font_for, lettered, line_height
from .panels import colour

_GAP = 6
_LEAST_WIDTH = LONGEST_NAME + 40
"""Width in pixels of what has room for any entry of the legend."""


def draw_overlay(
    image: np.ndarray, mask: np.ndarray, classes: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """Image uint8 RGB [H, W, 3] and the colours of class ids [H, W], half and half; below, the classes that are there.

    An image that is narrower than a name is centred.
    """
    height, width, _ = image.shape
    blended = Image.blend(Image.fromarray(image), Image.fromarray(colour(mask, palette)), 0.5)
    font = font_for(classes, 13)
    names = lettered(classes, font)
    row, total = line_height(font) + _GAP, max(width, _LEAST_WIDTH)
    places, x, y = [], _GAP, height + _GAP
    for id in map(int, np.unique(mask)):
        needed = row + round(font.getlength(names[id])) + 2 * _GAP
        if x > _GAP and x + needed > total:
            x, y = _GAP, y + row
        places.append((id, x, y))
        x += needed
    picture = Image.new("RGB", (total, y + row), "white")
    picture.paste(blended, ((total - width) // 2, 0))
    draw = ImageDraw.Draw(picture)
    for id, x, y in places:
        draw.rectangle((x, y, x + row - _GAP, y + row - _GAP), fill=palette[id], outline=INK)
        draw.text((x + row, y), names[id], fill=INK, font=font)
    return picture
