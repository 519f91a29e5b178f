"""Names and numbers in pictures: their ink, a font that has their letters, and how much room they take."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import ImageFont

INK = (40, 40, 40)
LONGEST_NAME = 180
"""Width in pixels that a name may take."""
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "Arial Unicode.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf"),
)
"""What Linux, macOS and Windows have, those of most languages last."""
_NO_LETTER = "\U0010fffe"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font_for(names: Sequence[str], size: float) -> Font:
    """The first font with all letters of all names, else with those of most: Pillow's, matplotlib's, a system's.

    Pillow's own has those of English alone.
    """
    best, most = ImageFont.load_default(size), -1
    for font in _fonts(size):
        fit = sum(_has(font, name) for name in names)
        if fit > most:
            best, most = font, fit
        if fit == len(names):
            break
    return best


def lettered(names: Sequence[str], font: Font) -> list[str]:
    """Names as a font can write them within the room that they may take: `class 3` for one with letters it lacks."""
    return [shortened(name if _has(font, name) else f"class {id}", font) for id, name in enumerate(names)]


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


def _fonts(size: float) -> Iterator[Font]:
    yield ImageFont.load_default(size)
    for name in (*_of_matplotlib(), *_SYSTEM_FONTS):
        with suppress(OSError):
            yield ImageFont.truetype(name, size)


def _of_matplotlib() -> Iterator[str]:
    """The font that matplotlib brings along, where that is installed."""
    if (package := find_spec("matplotlib")) and package.origin:
        yield str(Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")


def _has(font: Font, name: str) -> bool:
    """Whether a font has all letters of a name: it draws the same box for each that it lacks."""
    return all(_drawn(font, letter) != _drawn(font, _NO_LETTER) for letter in set(name))


def _drawn(font: Font, letter: str) -> bytes:
    pixels: Any = font.getmask(letter)
    return bytes(pixels)
