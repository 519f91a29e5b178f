"""Colour jitter as a pure function of a generator: brightness, contrast, saturation, hue, always in this order."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from ...models.settings import Interval, Settings


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


def jitter(pixels: np.ndarray, settings: JitterSettings, rng: np.random.Generator) -> np.ndarray:
    """RGB pixels uint8 [n, 3], n at least 1, of one image in other colours; each step is cut off to 0...255."""
    colours = pixels.astype(np.float32)
    if settings.brightness:
        colours = _blend(colours, np.float32(0), _factor(settings.brightness, rng))
    if settings.contrast:
        mean = np.float32(_grey(colours).mean(dtype=np.float64))
        colours = _blend(colours, mean, _factor(settings.contrast, rng))
    if settings.saturation:
        colours = _blend(colours, _grey(colours)[:, None], _factor(settings.saturation, rng))
    if settings.hue:
        # One row is one piece of work to OpenCV, so the bits do not depend on its number of threads.
        hsv = cv2.cvtColor(colours[None] / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * rng.uniform(-settings.hue, settings.hue)) % 360
        colours = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    return colours.round().clip(0, 255).astype(np.uint8)


def _grey(colours: np.ndarray) -> np.ndarray:
    """The luma of ITU-R BT.601, float32 [n]."""
    return (colours * np.array([0.299, 0.587, 0.114], np.float32)).sum(1)


def _factor(reach: float, rng: np.random.Generator) -> np.float32:
    return np.float32(rng.uniform(1 - reach, 1 + reach))


def _blend(colours: np.ndarray, origin: np.ndarray | np.float32, factor: np.float32) -> np.ndarray:
    """Colours moved away from an origin (above 1) or towards it (below 1)."""
    return (origin + factor * (colours - origin)).clip(0, 255)
