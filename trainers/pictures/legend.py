"""Which colour is which class, below a picture."""

from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

from .lettering import INK, LONGEST_NAME, font_for, lettered, line_height
from .panels import IGNORED

_GAP = 6
_LEAST_WIDTH = LONGEST_NAME + 40
"""Width in pixels of what has room for any entry of the legend."""


def with_legend(
    picture: Image.Image,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    shown: Iterable[int] | None = None,
) -> Image.Image:
    """A picture above a swatch and a name for each of the classes shown, or for all and for what is ignored.

    A picture that is narrower than a name is centred.
    """
    font = font_for(classes, 12)
    entries = [*zip(lettered(classes, font), palette, strict=True), ("ignored", IGNORED)]
    row, total = line_height(font) + _GAP, max(picture.width, _LEAST_WIDTH)
    places, x, y = [], _GAP, picture.height + _GAP
    for name, swatch in entries if shown is None else [entries[id] for id in shown]:
        needed = row + round(font.getlength(name)) + 2 * _GAP
        if x > _GAP and x + needed > total:
            x, y = _GAP, y + row
        places.append((x, y, name, swatch))
        x += needed
    whole = Image.new("RGB", (total, y + row), "white")
    whole.paste(picture, ((total - picture.width) // 2, 0))
    draw = ImageDraw.Draw(whole)
    for x, y, name, swatch in places:
        draw.rectangle((x, y, x + row - _GAP, y + row - _GAP), fill=swatch, outline=INK)
        draw.text((x + row, y), name, fill=INK, font=font)
    return whole
