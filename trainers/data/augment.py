"""Augmentation: scale, crop, mirror, turn, colour; first drawn, then carried out. What is off draws nothing."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from ...models.settings import Interval, Settings
from .draws import Draws
from .jitter import ColourJitter, JitterSettings, draw_colour_jitter, jitter_colours
from .resize import Size, resize_image, resize_mask

_Factor = Annotated[float, Interval(0, 10, open_low=True)]


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings(Settings):
    """What is drawn anew for every image of every batch."""

    crop: tuple[Annotated[int, Interval(1)], Annotated[int, Interval(1)]]
    """Height and width in pixels. A smaller image is padded; padding counts nowhere."""
    scale: tuple[_Factor, _Factor] = (1.0, 1.0)
    """Lowest and highest factor of height and width before the crop, drawn uniformly; the paper's are 0.5, 1.5."""
    mirror: bool = True
    """Swap left and right of every second image, by chance."""
    rotate: bool = False
    """Turn by a multiple of 90 degrees; for scenes without an up and down. Asks for a square crop."""
    jitter: JitterSettings = JitterSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be a lowest and a highest factor, but is {self.scale[0]}, {self.scale[1]}")
        if self.rotate and self.crop[0] != self.crop[1]:
            raise ValueError(f"rotate needs a square crop, but crop is {self.crop[0]} x {self.crop[1]}")


@dataclass(frozen=True, kw_only=True)
class View:
    """What one draw shows of an image, and how. It says all that is random, so any arithmetic may carry it out."""

    rows: slice
    columns: slice
    """What is seen of the image, in whole pixels of it."""
    size: Size
    """Height and width that this is scaled to. What a crop has beyond, below and to the right, is padding."""
    mirror: bool
    """Swap left and right of the padded crop."""
    turns: int
    """By how many right angles the padded crop is then turned, counter-clockwise."""
    colour_jitter: ColourJitter


def draw_view(size: Size, settings: AugmentationSettings, rng: Draws) -> View:
    """Draw what to show of an image of a height and width.

    An image is scaled, and a window of the scaled image is cropped. Only the part that the window shows is scaled in
    fact, so the window starts at a whole pixel of the image.
    """
    factor = rng.uniform(*settings.scale) if settings.scale != (1.0, 1.0) else 1.0
    (rows, height), (columns, width) = (
        _window(side, max(1, round(factor * side)), crop, rng) for side, crop in zip(size, settings.crop, strict=True)
    )
    return View(
        rows=rows,
        columns=columns,
        size=(height, width),
        mirror=settings.mirror and rng.random() < 0.5,
        turns=rng.integers(4) if settings.rotate else 0,
        colour_jitter=draw_colour_jitter(settings.jitter, rng),
    )


def _window(side: int, scaled: int, crop: int, rng: Draws) -> tuple[slice, int]:
    """A stretch of `side` pixels, and the length it has in a crop, where the whole side has length `scaled`."""
    seen = side if scaled <= crop else max(1, round(crop * side / scaled))
    start = rng.integers(side - seen + 1)
    return slice(start, start + seen), min(crop, scaled)


def show_image(image: np.ndarray, view: View, out: np.ndarray) -> None:
    """Put what a view shows of an image uint8 [H, W, 3] into a crop [h, w, 3], which is black."""
    _put(jitter_colours(resize_image(image[view.rows, view.columns], view.size), view.colour_jitter), view, out)


def show_mask(mask: np.ndarray, view: View, out: np.ndarray) -> None:
    """Put what a view shows of a mask [H, W] into a crop [h, w], which holds the ignore index."""
    _put(resize_mask(mask[view.rows, view.columns], view.size), view, out)


def show_validity(view: View, out: np.ndarray) -> None:
    """Make the part of a crop bool [h, w] true that is no padding."""
    _shown_part(out, view)[...] = True


def _put(pixels: np.ndarray, view: View, out: np.ndarray) -> None:
    # OpenCV mirrors several times faster than NumPy copies backwards.
    _shown_part(out, view)[...] = cv2.flip(pixels, 1) if view.mirror else pixels


def _shown_part(out: np.ndarray, view: View) -> np.ndarray:
    """The part of a crop that is no padding, as it was before the crop was turned."""
    height, width = view.size
    turned_back = np.rot90(out, -view.turns)
    return turned_back[:height, turned_back.shape[1] - width :] if view.mirror else turned_back[:height, :width]
