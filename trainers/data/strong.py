"""Strong views of an image that was cropped already: colours, grey, blur, and a box for CutMix.

What is random is drawn on the host, a few numbers a view. The pixels are made of them by torch, in whole batches on
whatever device trains.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.settings import Interval, Settings
from .draws import Draws
from .jitter import LUMA, ColourJitter, JitterSettings, draw_colour_jitter
from .resize import Size

_Probability = Annotated[float, Interval(0, 1)]
SIGMAS = (0.1, 2.0)
"""Lowest and highest standard deviation of the blur in pixels, drawn uniformly (UniMatch V2, dataset/transform.py)."""
AREAS = (0.02, 0.4)
"""Lowest and highest share of the crop in a box, drawn uniformly (UniMatch V2, dataset/transform.py)."""
RATIOS = (0.3, 1 / 0.3)
"""Lowest and highest ratio of a box's height to its width, each as a share of the crop's; drawn uniformly, and anew
with the place until the box lies within the crop (UniMatch V2, dataset/transform.py, of square crops)."""
KEYS = 2**24
"""How many keys there are of channels; all are exact in single precision."""
_REACH = math.ceil(3 * SIGMAS[1])
"""Pixels on each side that a blurred one is made of."""


@dataclass(frozen=True, kw_only=True)
class StrongJitterSettings(JitterSettings):
    """Whether and how far colours stray.

    Published are `ColorJitter(0.5, 0.5, 0.5, 0.25)` with probability 0.8 (UniMatch V2, dataset/semi.py), whose four
    changes follow each other in a random order; here it is always this one.
    """

    probability: _Probability = 0.8
    """Share of views whose colours are changed at all."""
    brightness: Annotated[float, Interval(0, 1)] = 0.5
    """The factor of all colours is uniform in 1 +- this."""
    contrast: Annotated[float, Interval(0, 1)] = 0.5
    """The factor of a colour's distance from the image's mean grey, without padding, is uniform in 1 +- this."""
    saturation: Annotated[float, Interval(0, 1)] = 0.5
    """The factor of a colour's distance from its own grey is uniform in 1 +- this."""
    hue: Annotated[float, Interval(0, 0.5)] = 0.25
    """The shift of the hue, in turns of the colour circle, is uniform in +- this."""


@dataclass(frozen=True, kw_only=True)
class StrongSettings(Settings):
    """What a strong view does to the pixels of the weak one, drawn anew for every view."""

    jitter: StrongJitterSettings = StrongJitterSettings()
    grey_probability: _Probability = 0.2
    """Share of views without colours (UniMatch V2, dataset/semi.py: `RandomGrayscale(p=0.2)`)."""
    blur_probability: _Probability = 0.5
    """Share of views that are blurred by a Gaussian of 0.1 to 2 pixels (UniMatch V2, dataset/semi.py)."""
    cutmix_probability: _Probability = 0.5
    """Share of views in which a box of 2 to 40 % of the crop shows another unlabelled image of the micro-batch, with
    its pseudo-labels (CutMix, Yun et al., 2019; probability and sizes of UniMatch V2)."""


@dataclass(frozen=True, kw_only=True)
class StrongView:
    """What one draw makes of a crop. All are numbers, so that those of a batch are one tensor."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float
    """1 without colours, else 0."""
    sigma: float
    """Of the blur, in pixels; 0 is none."""
    top: float
    left: float
    bottom: float
    """The row after the last one of the box; where it is `top`, there is no box."""
    right: float
    channels: float
    """Key of the channels that are dropped, below `KEYS`; -1 if all are kept."""


COLOURS, BOX, CHANNELS = slice(0, 6), slice(6, 10), 10
"""Where the numbers of a `StrongView` stand in a row."""


def draw_strong(settings: StrongSettings, crop: Size, rng: Draws) -> StrongView:
    """Draw a strong view of a crop of a height and width. What is off draws nothing."""
    jitters = _happens(settings.jitter.probability, rng)
    colours = draw_colour_jitter(settings.jitter, rng) if jitters else ColourJitter()
    grey = _happens(settings.grey_probability, rng)
    sigma = rng.uniform(*SIGMAS) if _happens(settings.blur_probability, rng) else 0.0
    top, left, bottom, right = _draw_box(crop, rng) if _happens(settings.cutmix_probability, rng) else (0, 0, 0, 0)
    return StrongView(
        brightness=colours.brightness,
        contrast=colours.contrast,
        saturation=colours.saturation,
        hue=colours.hue,
        grey=float(grey),
        sigma=sigma,
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        # UniMatch V2, model/semseg/dpt.py: half of the images keep all channels.
        channels=rng.integers(KEYS) if rng.random() < 0.5 else -1,
    )


def _happens(probability: float, rng: Draws) -> bool:
    return probability > 0 and rng.random() < probability


def _draw_box(crop: Size, rng: Draws) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a box that lies within a crop."""
    height, width = crop
    area = rng.uniform(*AREAS)
    while True:
        ratio = rng.uniform(*RATIOS)
        box = int(height * math.sqrt(area * ratio)), int(width * math.sqrt(area / ratio))
        top, left = rng.integers(height), rng.integers(width)
        if top + box[0] <= height and left + box[1] <= width:
            return top, left, top + box[0], left + box[1]


def show_strong(images: Tensor, valid: Tensor, drawn: Tensor) -> Tensor:
    """Strong views [N, 3, H, W], without their boxes, of RGB images of the same shape and type in 0...255.

    valid bool [N, H, W] is False on padding; drawn [N, 11] has the numbers of a `StrongView` in a row each.
    """
    numbers = drawn[:, COLOURS].to(images.dtype).unsqueeze(-1).unsqueeze(-1).unsqueeze(-1)
    brightness, contrast, saturation, hue, grey, sigma = numbers.unbind(1)
    colours = (brightness * images).clamp(0, 255)
    shown = valid.unsqueeze(1)
    mean = (_grey(colours) * shown).sum((2, 3), keepdim=True) / shown.sum((2, 3), keepdim=True).clamp(min=1)
    colours = (mean + contrast * (colours - mean)).clamp(0, 255)
    own = _grey(colours)
    colours = (own + saturation * (colours - own)).clamp(0, 255)
    colours = _turned(colours, hue)
    colours = colours + grey * (_grey(colours) - colours)
    return _blurred(colours, sigma)


def _grey(colours: Tensor) -> Tensor:
    """[N, 1, H, W] of [N, 3, H, W]."""
    red, green, blue = colours.split(1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _turned(colours: Tensor, hue: Tensor) -> Tensor:
    """Colours [N, 3, H, W] whose hue is shifted by turns [N, 1, 1, 1] of the colour circle."""
    red, green, blue = colours.split(1, 1)
    value, chroma = colours.amax(1, keepdim=True), colours.amax(1, keepdim=True) - colours.amin(1, keepdim=True)
    some = torch.where(chroma > 0, chroma, 1)
    sixths = torch.where(
        value == red,
        (green - blue) / some,
        torch.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some),
    )
    # Each channel rises and falls along the circle, of which it begins at another sixth.
    turned = [(place + sixths + 6 * hue) % 6 for place in (5, 3, 1)]
    return torch.cat([value - chroma * torch.minimum(along, 4 - along).clamp(0, 1) for along in turned], 1)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Images [N, 3, H, W], each blurred by a Gaussian of its own standard deviation [N, 1, 1, 1]; by 0 it stays."""
    count, channels, height, width = images.shape
    offsets = torch.arange(-_REACH, _REACH + 1, device=images.device, dtype=images.dtype)
    weights = (-0.5 * (offsets / sigma.view(-1, 1).clamp(min=0.01)) ** 2).exp()
    weights = (weights / weights.sum(1, keepdim=True)).repeat(1, channels).view(count * channels, 1, -1, 1)
    rows = F.pad(images.reshape(1, count * channels, height, width), (_REACH,) * 4, mode="replicate")
    rows = F.conv2d(rows, weights, groups=count * channels)
    return F.conv2d(rows, weights.movedim(2, 3), groups=count * channels).view(images.shape)
