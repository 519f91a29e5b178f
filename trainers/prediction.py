"""Between a model and its users: images as they come, masks as they leave."""

from pathlib import Path

import numpy as np

from ..models.architectures import LEAST_SIDE
from ..models.damage import refuse_damaged
from ..models.decoding import Decoding
from .data.images import Colour, ImageError, decode_image, mask_image, read_file, told
from .marked import marked_png


def read_scene(path: Path, decoding: Decoding) -> np.ndarray:
    """An image that is whole and large enough for a network, as uint8 RGB [H, W, 3]. Raises ImageError."""
    return decode_scene(read_file(path), path, decoding)


def decode_scene(content: bytes, path: Path | str, decoding: Decoding) -> np.ndarray:
    """`read_scene` of a file that was read already; its path, or what it is called, is for messages."""
    image = decode_image(content, path, decoding)
    with told():
        refuse_damaged(content, path)
    height, width, _ = image.shape
    if min(height, width) < LEAST_SIDE:
        raise ImageError(
            f"{path} is {width} x {height}, but an image must be at least {LEAST_SIDE} x {LEAST_SIDE} pixels"
        )
    return image


def encode_mask(mask: np.ndarray, palette: tuple[Colour, ...], made_of: str) -> bytes:
    """Class ids [H, W] as the PNG that `write_mask` makes, marked."""
    return marked_png(mask_image(mask, list(palette)), made_of)
