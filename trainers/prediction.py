"""Between a model and its users: images as they come, masks as they leave."""

from io import BytesIO
from pathlib import Path

import numpy as np
from torch import Tensor

from ..models.architectures import LEAST_SIDE
from .data.images import Colour, ImageError, decode_image, read_file, write_mask


def read_scene(path: Path) -> np.ndarray:
    """An image that is large enough for a network, as uint8 RGB [H, W, 3]. Raises ImageError."""
    return decode_scene(read_file(path), path)


def decode_scene(content: bytes, path: Path) -> np.ndarray:
    """`read_scene` of a file that was read already; the path is for messages."""
    image = decode_image(content, path)
    height, width = image.shape[:2]
    if min(height, width) < LEAST_SIDE:
        raise ImageError(
            f"{path} is {width} x {height}, but an image must be at least {LEAST_SIDE} x {LEAST_SIDE} pixels"
        )
    return image


def encode_mask(probabilities: Tensor, palette: tuple[Colour, ...]) -> bytes:
    """The most probable class of each pixel, of class probabilities [K, H, W], as the PNG that `write_mask` makes."""
    content = BytesIO()
    write_mask(content, probabilities.argmax(0).numpy(), list(palette))
    return content.getvalue()
