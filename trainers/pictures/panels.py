"""Pictures for people: rows of equally large tiles under column titles."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

TILE = 144
"""Width of a tile in pixels."""
IGNORED = (220, 220, 220)
"""Colour of ignored pixels."""
_GAP, _HEADER = 4, 18


def compose(titles: Sequence[str], rows: Sequence[Sequence[np.ndarray]]) -> Image.Image:
    """One picture of rows of tiles, each uint8 RGB [H, W, 3] and enlarged or reduced to the same width.

    The tiles of a row share a shape.
    """
    heights = [round(TILE * tiles[0].shape[0] / tiles[0].shape[1]) for tiles in rows]
    size = (len(titles) * (TILE + _GAP) + _GAP, _HEADER + sum(heights) + (len(rows) + 1) * _GAP)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (TILE + _GAP), 4), title, fill="black")
    top = _HEADER
    for tiles, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(tiles):
            enlarged = Image.fromarray(tile).resize((TILE, height), Image.Resampling.NEAREST)
            picture.paste(enlarged, (_GAP + column * (TILE + _GAP), top))
        top += height + _GAP
    return picture


def colour(mask: np.ndarray, palette: Sequence[tuple[int, int, int]], ignore_index: int | None = None) -> np.ndarray:
    """Class ids [H, W] as uint8 RGB [H, W, 3]; ignored pixels are light grey."""
    table = np.full((2**16, 3), IGNORED, np.uint8)
    table[: len(palette)] = palette
    if ignore_index is not None:
        table[ignore_index] = IGNORED
    return table[mask]


def heat(confidence: np.ndarray) -> np.ndarray:
    """A map [H, W] in 0...1 as uint8 RGB [H, W, 3]: dark blue at 0, white in the middle, dark red at 1."""
    stops = np.array([[5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]], float)
    positions = np.linspace(0, 1, len(stops))
    channels = [np.interp(confidence, positions, stops[:, c]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)
