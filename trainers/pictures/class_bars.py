"""The IoU of each class as a bar."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..metrics import mean
from .lettering import INK, font_for, lettered, line_height

_FULL = 400
"""Length in pixels of a bar of 100 percent."""
_ROW, _BAR = 22, 14
"""Height in pixels of a row, and of the bar in it."""
_GAP = 10
_TRACK, _MEAN, _FAINT = (240, 240, 240), (200, 30, 30), (150, 150, 150)


def draw_class_bars(
    iou: Sequence[float | None], classes: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """A row for each class: its name, a bar of its colour as long as its IoU, and that number in percent.

    A line marks the mean. A class without an IoU has no bar, is called absent, and does not count in the mean.
    """
    font = font_for(classes, 13)
    average = mean(iou)
    title = f"IoU of each class, %; the line is their mean, {average:.2f}"
    names = lettered(classes, font)
    left = 2 * _GAP + round(max(font.getlength(name) for name in names))
    top = 2 * _GAP + line_height(font)
    bottom = top + _ROW * len(classes)
    right = left + _FULL + _GAP + round(max(map(font.getlength, ("absent", "100.00"))))
    width = max(right, _GAP + round(font.getlength(title))) + _GAP
    picture = Image.new("RGB", (width, bottom + _GAP), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, _GAP), title, fill=INK, font=font)
    for place, (name, value, colour) in enumerate(zip(names, iou, palette, strict=True)):
        middle = top + place * _ROW + _ROW // 2
        above, below = middle - _BAR // 2, middle + _BAR // 2
        draw.text((left - _GAP, middle), name, fill=INK, font=font, anchor="rm")
        if value is None:
            draw.text((right, middle), "absent", fill=_FAINT, font=font, anchor="rm")
        else:
            draw.rectangle((left, above, left + _FULL, below), fill=_TRACK)
            draw.rectangle((left, above, left + round(_FULL * value / 100), below), fill=colour, outline=INK)
            draw.text((right, middle), f"{value:.2f}", fill=INK, font=font, anchor="rm")
    position = left + round(_FULL * average / 100)
    draw.line((position, top, position, bottom), fill=_MEAN)
    return picture
