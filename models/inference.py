"""Class probabilities of whole images: at once or window by window, at one scale or averaged over several."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .architectures import LEAST_SIDE, Normalised
from .resize import Resize, Size, size_of
from .segmenter import Segmenter
from .settings import Interval, Settings

PIXELS_AT_ONCE = 2**20
"""Pixels that go through a network together, unless one image or window alone has more."""

Place = tuple[slice, slice]
"""The rows and columns of a window."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Settings):
    """How a network reads an image that it is judged by."""

    mode: Literal["whole", "sliding"] = "whole"
    """The image at once, or windows of it whose probabilities are averaged where they overlap."""
    window: Size = (801, 801)
    """Height and width of a sliding window in pixels. An image that is smaller one way is covered whole that way."""
    stride: Annotated[float, Interval(0.05, 1)] = 2 / 3
    """From one window to the next, as a share of the window's side; of the least each pixel is read 400 times."""
    scales: tuple[Annotated[float, Interval(0.1, 10)], ...] = ()
    """Factors of height and width over which a second figure averages probabilities. Never the headline."""
    flip: bool = False
    """Whether the second figure also averages over mirrored images."""
    images: Annotated[int, Interval(1)] | None = None
    """Validation images by which a training is judged on its way and at its end, the same ones each time: of so many
    equal stretches of the list the first of each; by default all. `advseg evaluate` takes all in any case."""

    @property
    def averages(self) -> bool:
        """Whether a second figure is asked for."""
        return self.flip or bool(self.scales)


def pixels_of(pictures: Tensor, normalised: Normalised, memory_format: torch.memory_format) -> Tensor:
    """Images uint8 [N, H, W, 3] as a network on their device reads them, [N, 3, H, W]."""
    return normalised(pictures.permute(0, 3, 1, 2).contiguous()).contiguous(memory_format=memory_format)


def predict_probabilities(
    segmenter: Segmenter, pixels: Tensor, settings: EvaluationSettings, *, resize: Resize | None = None
) -> Tensor:
    """Class probabilities [N, K, H, W] of normalised images [N, 3, H, W], at one scale and not mirrored.

    `resize` is the size at which the network reads them, windows included; None is their own. Images are
    brought to it, and probabilities back, bilinearly with a pixel's centre in its middle, as training scales
    images. The segmenter must be in evaluation mode.
    """
    read = _scaled(pixels, size_of(resize, _size(pixels)))
    return _scaled(_predict(segmenter, read, settings), _size(pixels))


def predict_averaged(
    segmenter: Segmenter, pixels: Tensor, settings: EvaluationSettings, *, resize: Resize | None = None
) -> Tensor:
    """The mean of `predict_probabilities` over the settings' scales, with `flip` over both directions of each.

    Scales are of the size at which the network reads the images; without any there is the scale 1.
    """
    total, views = pixels.new_zeros(()), 0
    for size in scaled_sizes(settings, size_of(resize, _size(pixels))):
        for mirrored in (False, True) if settings.flip else (False,):
            seen = pixels.flip(-1) if mirrored else pixels
            found = predict_probabilities(segmenter, seen, settings, resize=size)
            total = total + (found.flip(-1) if mirrored else found)
            views += 1
    return total / views


def scaled_sizes(settings: EvaluationSettings, size: Size) -> list[Size]:
    """At what sizes `predict_averaged` reads an image that is read at a size otherwise."""
    height, width = size
    return [(_times(scale, height), _times(scale, width)) for scale in settings.scales or (1.0,)]


def window_starts(length: int, window: int, stride: float) -> list[int]:
    """First pixels of the windows that cover `length` pixels, all within them; the last one ends at the border.

    `window` is at most `length`.
    """
    last = length - window
    return [*range(0, last, max(1, round(stride * window))), last]


def _predict(segmenter: Segmenter, pixels: Tensor, settings: EvaluationSettings) -> Tensor:
    """Probabilities [N, K, H, W] at the size of the pixels, averaged over windows."""
    size = _size(pixels)
    window = _within(settings.window, size) if settings.mode == "sliding" else size
    if window == size:
        maps = [segmenter(part).softmax(1) for part in _parts(pixels)]
        return maps[0] if len(maps) == 1 else torch.cat(maps)
    together = max(1, PIXELS_AT_ONCE // (len(pixels) * window[0] * window[1]))

    def read(places: Sequence[Place]) -> Iterator[Tensor]:
        for first in range(0, len(places), together):
            some = [pixels[(..., *place)] for place in places[first : first + together]]
            yield from segmenter(torch.cat(some)).softmax(1).split(len(pixels))

    return torch.cat([*sliding_bands(read, size, settings)], -2)


def sliding_bands(
    read: Callable[[Sequence[Place]], Iterable[Tensor]], size: Size, settings: EvaluationSettings
) -> Iterator[Tensor]:
    """Maps [N, C, h, W] of images from top to bottom, averaged over the windows of the settings where these overlap.

    `read` makes maps [N, C, h, w] of each of several windows side by side. No more than the rows that one window has
    are in memory.
    """
    window = _within(settings.window, size)
    tops, lefts = (window_starts(*sides, settings.stride) for sides in zip(size, window, strict=True))
    total = covered = torch.zeros(())
    for top, following in pairwise([*tops, size[0]]):
        places = [(slice(top, top + window[0]), slice(left, left + window[1])) for left in lefts]
        for (_, columns), maps in zip(places, read(places), strict=True):
            if not total.ndim:
                total, covered = maps.new_zeros(*maps.shape[:2], window[0], size[1]), maps.new_zeros(window[0], size[1])
            total[..., columns] += maps
            covered[:, columns] += 1
        done = following - top
        yield total[..., :done, :] / covered[:done]
        # What the next windows add to moves to the top.
        total, covered = (F.pad(rows[..., done:, :], (0, 0, 0, done)) for rows in (total, covered))


def _within(window: Size, size: Size) -> Size:
    return min(window[0], size[0]), min(window[1], size[1])


def _parts(images: Tensor) -> Iterator[Tensor]:
    """Images [N, 3, H, W], few enough at a time."""
    height, width = _size(images)
    yield from images.split(max(1, PIXELS_AT_ONCE // (height * width)))


def _scaled(maps: Tensor, size: Size) -> Tensor:
    """Maps [N, C, h, w] at another height and width."""
    if _size(maps) == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _times(scale: float, side: int) -> int:
    return max(round(scale * side), min(side, LEAST_SIDE))


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]
