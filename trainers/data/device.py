"""What a view shows, carried out on a training device. Pixels can differ from those of `augment` by rounding."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .augment import View
from .jitter import LUMA, ColourJitter
from .resize import resize_mask


def show_image_there(image: np.ndarray, view: View, out: Tensor) -> None:
    """Put what a view shows of an image uint8 [H, W, 3] into a crop uint8 [3, h, w] on a device, which is black."""
    pixels = _window(image, view, out.device).permute(2, 0, 1).float()
    if pixels.shape[1:] != view.size:
        pixels = F.interpolate(pixels[None], view.size, mode="bilinear", align_corners=False)[0].round()
    _put(jitter_colours_there(pixels, view.colour_jitter).to(torch.uint8), view, out)


def show_mask_there(mask: np.ndarray, view: View, out: Tensor) -> None:
    """Put what a view shows of a mask [H, W] into a crop int32 [h, w] on a device, which holds the ignore index."""
    rows, columns = (
        _nearest(seen.stop - seen.start, new, out.device)
        for seen, new in zip((view.rows, view.columns), view.size, strict=True)
    )
    _put(_window(mask, view, out.device)[rows][:, columns].int(), view, out)


def show_validity_there(view: View, out: Tensor) -> None:
    """Make the part of a crop bool [h, w] on a device true that is no padding."""
    _put(torch.ones(view.size, dtype=torch.bool, device=out.device), view, out)


def jitter_colours_there(pixels: Tensor, drawn: ColourJitter) -> Tensor:
    """RGB pixels float32 [3, h, w] in other colours, whole numbers in 0...255, as `jitter_colours` has them."""
    if drawn == ColourJitter():
        return pixels
    pixels = _blend(pixels, torch.zeros_like(pixels), drawn.brightness)
    pixels = _blend(pixels, _grey(pixels).mean(), drawn.contrast)
    pixels = _blend(pixels, _grey(pixels), drawn.saturation)
    return (_hue_shifted(pixels, drawn.hue) if drawn.hue else pixels).round()


def _hue_shifted(pixels: Tensor, turns: float) -> Tensor:
    """Colours with another hue, and the greatest and least of their channels as before (HSV, Smith 1978)."""
    red, green, blue = pixels
    value, least = pixels.amax(0), pixels.amin(0)
    chroma = (value - least).clamp(min=1e-6)
    hue = torch.where(
        value == red,
        (green - blue) / chroma,
        torch.where(value == green, (blue - red) / chroma + 2, (red - green) / chroma + 4),
    )
    hue = hue / 6 + turns
    channels = [(hue * 6 + offset) % 6 for offset in (5, 3, 1)]
    return torch.stack([value - (value - least) * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels])


def _grey(pixels: Tensor) -> Tensor:
    return (pixels * pixels.new_tensor(LUMA).view(3, 1, 1)).sum(0)


def _blend(pixels: Tensor, origin: Tensor, factor: float) -> Tensor:
    return (origin + factor * (pixels - origin)).clamp(0, 255) if factor != 1 else pixels


def _nearest(seen: int, new: int, device: torch.device) -> Tensor:
    """Which of `seen` pixels in a row each of `new` shows; the plain path is asked, for it has its own way at ties."""
    row = resize_mask(np.arange(seen, dtype=np.int32)[None], (1, new))[0]
    return torch.from_numpy(row).to(device, non_blocking=True)


def _window(pixels: np.ndarray, view: View, device: torch.device) -> Tensor:
    """What is seen; a copy, as the pixels may be read-only."""
    return torch.from_numpy(pixels[view.rows, view.columns].copy()).to(device, non_blocking=True)


def _put(shown: Tensor, view: View, out: Tensor) -> None:
    """Put pixels [..., h', w'] into the upper left of a crop [..., h, w], which is then mirrored and turned."""
    height, width = view.size
    out[..., :height, :width] = shown
    if view.mirror:
        out.copy_(out.flip(-1))
    if view.turns:
        out.copy_(out.rot90(view.turns, (-2, -1)))
