"""Reading images from files that nobody vouches for, and writing masks."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ...models.files import open_regular
from ..errors import UserError
from ..regular_file import read_regular

Colour = tuple[int, int, int]

IGNORE_INDEX = 255
"""Id of pixels that count nowhere, unless a dataset's settings say otherwise; in files of Cityscapes always."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""What Pillow is allowed to open."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
"""How the names of image files end, in lower case."""
READERS = 8
"""Files that are read and decoded at the same time."""
MAX_PIXELS = 64_000_000
"""A larger image is refused: a small file can unpack to gigabytes."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by the orientation that its EXIF data tell."""
SIDEWAYS = range(5, 9)
"""Orientations that exchange height and width."""
_PAGED = ("TIFF", "WEBP")
_BITS_PER_SAMPLE = 258
_EXIF_OF_PNG = ("exif", "Raw profile type exif")


# Of one text Pillow reads a MiB, and 64 of all; editors keep histories of several in one.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)
"""What Pillow raises of damaged files."""


class ImageError(UserError):
    """A file that is not an image or mask as this project reads them."""


def read_image(path: Path) -> np.ndarray:
    """An image as uint8 RGB [H, W, 3]. Raises ImageError.

    It is turned upright as its EXIF orientation says. Greyscale is repeated in all three channels, alpha is
    dropped. Of 16 bits a channel it is refused: such images rarely use the whole range, and the upper eight bits,
    which would be kept, may all be dark.
    """
    return decode_image(read_file(path), path)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as `read_image` turns it, from its header. Raises ImageError.

    An orientation that a PNG tells only after its pixels is not seen: they would have to be unpacked for it.
    """
    with _opened(path) as file, _refusing(path), Image.open(file, formats=FORMATS) as header:
        width, height = header.size
        tells = header.format == "JPEG" or not header.info.keys().isdisjoint(_EXIF_OF_PNG)
        return (width, height) if tells and _orientation(header) in SIDEWAYS else (height, width)


def orientation_of(content: bytes) -> int:
    """The orientation that an image tells, 1 if none or if it cannot be read; that of a TIFF counts as none."""
    try:
        with _refusing("it"), Image.open(BytesIO(content), formats=FORMATS) as header:
            return 1 if header.format == "TIFF" else _orientation(header)
    except ImageError:
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


def decode_image(content: bytes, path: Path | str) -> np.ndarray:
    """`read_image` of a file that was read already; its path, or what it is called, is for messages."""
    image = open_picture(content, path)
    if (bits := bits_of(image, content)) > 8:
        raise deep_error(path, bits, "an image", "scale its values and convert it")
    with _refusing(path):
        turn = _TURNS.get(_orientation(image))
    return np.asarray(rgb_of(image if turn is None else image.transpose(turn), path))


def rgb_of(image: Image.Image, path: Path | str) -> Image.Image:
    """An image of any kind in RGB. Raises ImageError where Pillow does not know how."""
    with _refusing(path):
        # Straight to RGB, Pillow warns of palettes with transparency.
        return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def bits_of(image: Image.Image, content: bytes) -> int:
    """The bits of a channel or index in the file of an image; Pillow may keep the upper eight alone."""
    if image.format == "PNG":
        # The header's 25th byte.
        return content[24]
    return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) if isinstance(image, TiffImageFile) else 8


def deep_error(path: Path | str, bits: int, kind: str, remedy: str) -> ImageError:
    """That a file has so many bits a channel. Cameras and microscopes use the lower ten or twelve of them."""
    return ImageError(
        f"{path} has {bits} bits a channel, but {kind} has 8, as the upper ones alone may be dark: {remedy}"
    )


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


def open_picture(content: bytes, path: Path | str) -> Image.Image:
    """A file's pixels, as Pillow has them. Raises ImageError for what cannot be decoded, or is too large."""
    with _refusing(path), Image.open(BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{path} has {width} x {height} pixels, but at most {MAX_PIXELS} are read: scale it down")
        if image.format in _PAGED and (pages := getattr(image, "n_frames", 1)) > 1:
            raise ImageError(f"{path} holds {pages} pictures, but one is read: save each in a file of its own")
        image.load()
        return image


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


@contextmanager
def _refusing(path: Path | str) -> Iterator[None]:
    """Raises ImageError for what Pillow raises of a file."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{path} has far more than the {MAX_PIXELS} pixels that are read: scale it down") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is none of PNG, JPEG, TIFF, BMP and WebP: convert it") from None
    except _BROKEN as error:
        raise ImageError(f"{path} cannot be decoded ({error}): replace it") from None
