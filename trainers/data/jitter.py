"""Colour jitter: brightness, contrast, saturation, hue, always in this order; first drawn, then carried out."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from ...models.settings import Interval, Settings
from .draws import Draws

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey: the luma of ITU-R BT.601."""


@dataclass(frozen=True, kw_only=True)
class JitterSettings(Settings):
    """How far colours stray. What is 0 is off; all is off by default."""

    brightness: Annotated[float, Interval(0, 1)] = 0.0
    """The factor of all colours is uniform in 1 +- this."""
    contrast: Annotated[float, Interval(0, 1)] = 0.0
    """The factor of a colour's distance from the image's mean grey is uniform in 1 +- this."""
    saturation: Annotated[float, Interval(0, 1)] = 0.0
    """The factor of a colour's distance from its own grey is uniform in 1 +- this."""
    hue: Annotated[float, Interval(0, 0.5)] = 0.0
    """The shift of the hue, in turns of the colour circle, is uniform in +- this."""


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """What one draw does to colours; by default nothing."""

    brightness: float = 1.0
    """Factor of all colours."""
    contrast: float = 1.0
    """Factor of a colour's distance from the image's mean grey."""
    saturation: float = 1.0
    """Factor of a colour's distance from its own grey."""
    hue: float = 0.0
    """Shift of the hue in turns of the colour circle."""


def draw_colour_jitter(settings: JitterSettings, rng: Draws) -> ColourJitter:
    """Draw what is on."""

    def around(centre: float, reach: float) -> float:
        return rng.uniform(centre - reach, centre + reach) if reach else centre

    return ColourJitter(
        brightness=around(1, settings.brightness),
        contrast=around(1, settings.contrast),
        saturation=around(1, settings.saturation),
        hue=around(0, settings.hue),
    )


def jitter_colours(image: np.ndarray, drawn: ColourJitter) -> np.ndarray:
    """RGB pixels uint8 [h, w, 3], one at least, in other colours; each step is cut off to 0...255."""
    if drawn == ColourJitter():
        return image
    colours = image.reshape(1, -1, 3).astype(np.float32)
    if drawn.brightness != 1:
        colours = _blend(colours, np.float32(0), drawn.brightness)
    if drawn.contrast != 1:
        mean = np.float32(_grey(colours).mean(dtype=np.float64))
        colours = _blend(colours, mean, drawn.contrast)
    if drawn.saturation != 1:
        colours = _blend(colours, _grey(colours)[..., None], drawn.saturation)
    if drawn.hue:
        # One row is one piece of work to OpenCV, so the bits do not depend on its number of threads.
        hsv = cv2.cvtColor(colours / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * drawn.hue) % 360
        colours = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return colours.round().clip(0, 255).astype(np.uint8).reshape(image.shape)


def _grey(colours: np.ndarray) -> np.ndarray:
    """float32 [...]."""
    return (colours * np.array(LUMA, np.float32)).sum(-1)


def _blend(colours: np.ndarray, origin: np.ndarray | np.float32, factor: float) -> np.ndarray:
    """Colours moved away from an origin (above 1) or towards it (below 1)."""
    return (origin + np.float32(factor) * (colours - origin)).clip(0, 255)
