"""Names and numbers in pictures: their ink, and how much room they take."""

from PIL import ImageFont

INK = (40, 40, 40)
LONGEST_NAME = 180
"""Width in pixels that a name may take."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def shortened(name: str, font: Font) -> str:
    """A name, or as many of its first letters as there is room for."""
    if font.getlength(name) <= LONGEST_NAME:
        return name
    kept = next(n for n in range(len(name), -1, -1) if font.getlength(name[:n] + "…") <= LONGEST_NAME)
    return name[:kept] + "…"


def line_height(font: Font) -> int:
    """Height of a line of text in pixels."""
    _, top, _, bottom = font.getbbox("Áy")
    return round(bottom - top) + 4
