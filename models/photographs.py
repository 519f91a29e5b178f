"""What people call an image, as uint8 RGB [H, W, 3]: files, Pillow's images, arrays and tensors."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from .architectures import LEAST_SIDE
from .damage import refuse_damaged
from .decoding import PLAIN, Decoding
from .files import one_line, shown
from .picture_files import decode_picture, orientation_back, orientation_of, refusing, turned
from .regular_file import read_regular

Photograph = str | Path | Image.Image | np.ndarray | Tensor
"""One image; or several in an array or tensor with one side more."""
_DEEP = ("I", "F")
"""How the names of Pillow's modes begin that have more than 8 bits a channel."""
_SIXTEEN = "I;16"
_VALUES = "an image has uint8, or floats from 0 to 1"
_SHAPES = "an array is [H, W], [H, W, 3] or [H, W, 4], a tensor [3, H, W], and a batch of them has one side more"


def rgb_of(given: Any, decoding: Decoding = PLAIN) -> np.ndarray:
    """An image as uint8 RGB [H, W, 3], turned upright, without alpha. Raises ValueError, in one line.

    The decoding's scale counts for files, images of Pillow, arrays and tensors of 16 bits, its orientation for the
    first two.
    """
    match given:
        case str() | Path():
            image = _read(Path(given), decoding)
        case Image.Image():
            image = _converted(given, decoding)
        case np.ndarray():
            image = _of_array(given, given.shape, decoding)
        case Tensor():
            array = given.detach().cpu().numpy()
            image = _of_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array, given.shape, decoding)
        case _:
            raise ValueError(
                f"an image is a path, an image of Pillow, an array or a tensor, but {shown(given)} is none"
            )
    height, width, _ = image.shape
    if min(height, width) < LEAST_SIDE:
        raise ValueError(f"an image must be at least {LEAST_SIDE} x {LEAST_SIDE} pixels, but is {width} x {height}")
    return image


def split(given: Any) -> list[Any] | None:
    """The images of a batch or of a list; None for what is one."""
    match given:
        case str() | Path() | Image.Image():
            return None
        case np.ndarray() | Tensor():
            return list(given) if given.ndim == 4 else None
        case Iterable():
            return list(given)
    return None


def _read(path: Path, decoding: Decoding) -> np.ndarray:
    try:
        content = read_regular(path)
        image = decode_picture(content, path, decoding)
        refuse_damaged(content, path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({one_line(error)}): mend or replace it") from None
    return image


def _converted(image: Image.Image, decoding: Decoding) -> np.ndarray:
    with refusing("the image"):
        # Once loaded, a TIFF is upright and has no orientation.
        back = orientation_back(image) if image.format == "TIFF" else 1
        image.load()
        orientation = orientation_of(image) if decoding.orientation == "exif" else back
    if image.mode.startswith(_SIXTEEN) and decoding.scale:
        image = Image.fromarray(decoding.scaled(np.asarray(image)))
    if image.mode.startswith(_DEEP):
        raise ValueError("the image has over 8 bits a channel, of which the upper may be dark: scale and convert it")
    return turned(image, orientation, "the image")


def _of_array(array: np.ndarray, shape: Iterable[int], decoding: Decoding) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"{_SHAPES}, but this is {list(shape)}")
    array = array[..., :3]
    if array.dtype == np.uint16 and decoding.scale:
        array = decoding.scaled(array)
    if array.dtype != np.uint8:
        array = _scaled(array)
    return np.broadcast_to(array, (*array.shape[:2], 3))


def _scaled(array: np.ndarray) -> np.ndarray:
    """Floats in 0...1 as bytes. Raises ValueError for others, of which nobody knows what is black and what white."""
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{_VALUES}, but this has {array.dtype}: convert 0...255 by .astype('uint8')")
    low, high = (float(found) for found in (array.min(initial=0), array.max(initial=0)))
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{_VALUES}, but these are from {low:g} to {high:g}: divide 0...255 by 255, and leave normalising to "
            f"the model"
        )
    return (array * 255).round().astype(np.uint8)
