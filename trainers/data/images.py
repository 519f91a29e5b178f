"""Reading images from files that nobody vouches for, and writing masks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ...models import picture_files
from ...models.decoding import PLAIN, Decoding
from ...models.files import open_regular
from ...models.picture_files import FORMATS, PictureError, refusing
from ...models.regular_file import read_regular
from ..errors import UserError

Colour = tuple[int, int, int]

IGNORE_INDEX = 255
"""Id of pixels that count nowhere, unless a dataset's settings say otherwise; in files of Cityscapes always."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
"""How the names of image files end, in lower case."""
READERS = 8
"""Files that are read and decoded at the same time."""
SIDEWAYS = range(5, 9)
"""Orientations that exchange height and width."""
_SCALE_REMEDY = (
    "set dataset.scale to its black and white, as `advseg data init` does by --scale LOW HIGH, or convert it to 8 bits"
)
_EXIF_OF_PNG = ("exif", "Raw profile type exif")


class ImageError(UserError):
    """A file that is not an image or mask as this project reads them."""


@contextmanager
def told() -> Iterator[None]:
    """Raises ImageError for a PictureError."""
    try:
        yield
    except PictureError as error:
        raise ImageError(str(error)) from None


def read_image(path: Path, decoding: Decoding = PLAIN) -> np.ndarray:
    """An image as uint8 RGB [H, W, 3], decoded as `decode_picture` does. Raises ImageError."""
    return decode_image(read_file(path), path, decoding)


def read_size(path: Path, decoding: Decoding = PLAIN) -> tuple[int, int]:
    """Height and width of an image as `read_image` turns it, from its header. Raises ImageError.

    An orientation that a PNG tells only after its pixels is not seen: they would have to be unpacked for it.
    """
    with _opened(path) as file, told(), refusing(path), Image.open(file, formats=FORMATS) as header:
        width, height = header.size
        tells = header.format == "JPEG" or not header.info.keys().isdisjoint(_EXIF_OF_PNG)
        if decoding.orientation == "ignore":
            # The size of a TIFF is that of the turned image.
            tells = header.format == "TIFF"
        return (width, height) if tells and picture_files.orientation_of(header) in SIDEWAYS else (height, width)


def orientation_of(content: bytes, decoding: Decoding) -> int:
    """The orientation by which an image is turned, 1 if none or if it cannot be read; that of a TIFF counts as none."""
    if decoding.orientation == "ignore":
        return 1
    try:
        with refusing("it"), Image.open(BytesIO(content), formats=FORMATS) as header:
            return 1 if header.format == "TIFF" else picture_files.orientation_of(header)
    except PictureError:
        return 1


def is_file(path: Path) -> bool:
    """Whether a regular file is there; no if its name cannot be one."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Whether anything is there, a link that leads nowhere included."""
    return os.path.lexists(path)


def read_file(path: Path) -> bytes:
    """The content of a regular file. Raises ImageError."""
    with _reading(path):
        return read_regular(path)


def _opened(path: Path) -> BufferedReader:
    """A regular file, to be read. Raises ImageError."""
    with _reading(path):
        return open_regular(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises ImageError for what keeps a file from being read."""
    try:
        yield
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}): mend or replace it") from None


def decode_image(content: bytes, path: Path | str, decoding: Decoding = PLAIN) -> np.ndarray:
    """`read_image` of a file that was read already; its path, or what it is called, is for messages."""
    with told():
        return picture_files.decode_picture(content, path, decoding)


def decode_image_of_dataset(content: bytes, path: Path, decoding: Decoding) -> np.ndarray:
    """`decode_image` where whoever reads the message may set how a dataset's images are decoded."""
    with told():
        return picture_files.decode_picture(content, path, decoding, _SCALE_REMEDY)


def colour_numbers(pixels: np.ndarray) -> np.ndarray:
    """One number for each colour, of uint8 [..., 3]."""
    return pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def colour_of(number: int) -> Colour:
    """The colour of a number."""
    return number >> 16, number >> 8 & 255, number & 255


def write_mask(file: Path | BinaryIO, mask: np.ndarray, palette: list[Colour]) -> None:
    """Write class ids [H, W] as a palette PNG, or as a greyscale one of 16 bits if the palette has over 256 colours."""
    mask_image(mask, palette).save(file, format="PNG")


def mask_image(mask: np.ndarray, palette: list[Colour]) -> Image.Image:
    """What `write_mask` writes."""
    image = Image.fromarray(mask.astype(np.uint8 if len(palette) <= 256 else np.uint16))
    if len(palette) <= 256:
        image.putpalette([value for colour in palette for value in colour])
    return image


def voc_palette(colours: int = 256) -> list[Colour]:
    """The colour map of PASCAL VOC: the bits of the index, spread over the high bits of R, G and B."""
    palette = []
    for index in range(colours):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        palette.append((colour[0], colour[1], colour[2]))
    return palette
