"""At what size a network reads an image."""

from dataclasses import dataclass
from typing import Annotated

import torch

from .architectures import LEAST_SIDE
from .settings import Interval, Settings

MAX_PIXELS = 64_000_000
"""Of an image, and of a size at which a network reads images."""
MAX_SIDE = 8000
"""Pixels of a side whose square still has so many."""

_Side = Annotated[int, Interval(LEAST_SIDE)]
Size = tuple[_Side, _Side]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class LongerSide(Settings):
    """Each image in its own proportions, on end or lying. A smaller one is enlarged."""

    longer: Annotated[int, Interval(LEAST_SIDE, MAX_SIDE)]
    """What the longer of height and width becomes in pixels."""
    multiple: Annotated[int, Interval(1)] = 1
    """Both sides are multiples of it, the shorter one the nearest; 1 keeps the proportions best, and any size can be
    read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longer % self.multiple:
            raise ValueError(
                f"longer must be a multiple of multiple, but longer is {self.longer} and multiple {self.multiple}"
            )


Resize = Size | LongerSide
"""One size for all images, whatever their proportions, or each image in its own."""


def size_of(resize: Resize | None, size: Size) -> Size:
    """The size at which a network reads an image of a size; None is its own.

    In whole numbers, so that it is the same everywhere, also in a graph of a size that is known only later.
    """
    if not isinstance(resize, LongerSide):
        return resize or size
    step, longest = resize.multiple, torch.sym_max(*size)
    least = -(-LEAST_SIDE // step) * step

    def scaled(side: int) -> int:
        # Rounded, and half a step up.
        steps = (2 * side * resize.longer + longest * step) // (2 * longest * step)
        return torch.sym_max(steps * step, least)  # pyright: ignore[reportReturnType]

    height, width = size
    return scaled(height), scaled(width)


def refuse_huge(resize: Resize | None) -> None:
    """Raise ValueError for one size of more pixels than a network reads."""
    if isinstance(resize, tuple) and resize[0] * resize[1] > MAX_PIXELS:
        raise ValueError(f"resize must be of at most {MAX_PIXELS:,} pixels, but is {resize[0]} x {resize[1]}")
