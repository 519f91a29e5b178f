"""A confusion matrix as a picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .lettering import INK, Font, font_for, lettered, line_height

_TITLE = "pixels of each true class (row) by predicted class (column), %"
_SIDE = 760
"""Pixels that the cells of one row share, within the bounds of a cell."""
_LEAST_CELL, _GREATEST_CELL = 11, 64
_NUMBERED_CELL = 30
"""Smaller cells have no room for a number."""
_GAP = 10
_WHITE, _BLUE, _ABSENT = np.array([255, 255, 255]), np.array([8, 48, 107]), (225, 225, 225)
_GRID = (235, 235, 235)


def draw_confusion(matrix: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """The shares of each row of a confusion matrix [K, K], truth by row and prediction by column.

    Darker is more; large cells hold the share in percent, and nothing below half of one. The row of a class
    that is absent from the truth is grey.
    """
    cell = min(_GREATEST_CELL, max(_LEAST_CELL, _SIDE // len(classes)))
    font = font_for(classes, min(14, cell - 1))
    names = lettered(classes, font)
    margin = 2 * _GAP + round(max(font.getlength(name) for name in names))
    header = _GAP + 2 * line_height(font)
    left, top = margin + line_height(font), header + margin
    side = cell * len(classes)
    width = max(left + side, round(font.getlength(_TITLE))) + 2 * _GAP
    picture = Image.new("RGB", (width, top + side + 2 * _GAP), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, _GAP), _TITLE, fill=INK, font=font)
    for place, name in enumerate(names):
        middle = place * cell + cell // 2
        draw.text((left - _GAP, top + middle), name, fill=INK, font=font, anchor="rm")
        upright = _upright(name, font)
        picture.paste(upright, (left + middle - upright.width // 2, top - _GAP - upright.height))
    for row, counts in enumerate(matrix.astype(float)):
        total = counts.sum()
        for column, share in enumerate(counts / max(total, 1)):
            x, y = left + column * cell, top + row * cell
            colour = _colour(share) if total else _ABSENT
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill=colour, outline=_GRID)
            if cell >= _NUMBERED_CELL and share >= 0.005:
                ink = "white" if share > 0.35 else INK
                draw.text((x + cell / 2, y + cell / 2), f"{100 * share:.0f}", fill=ink, font=font, anchor="mm")
    return picture


def _colour(share: float) -> tuple[int, int, int]:
    """White at 0, dark blue at 1; small shares stand out."""
    red, green, blue = np.rint(_WHITE + (_BLUE - _WHITE) * share**0.6).astype(int).tolist()
    return red, green, blue


def _upright(text: str, font: Font) -> Image.Image:
    """A text that is read from bottom to top."""
    lying = Image.new("RGB", (round(font.getlength(text)) + 2, line_height(font)), "white")
    ImageDraw.Draw(lying).text((0, lying.height / 2), text, fill=INK, font=font, anchor="lm")
    return lying.transpose(Image.Transpose.ROTATE_90)
