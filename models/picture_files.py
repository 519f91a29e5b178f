"""Decoding image files that nobody vouches for, with Pillow."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from .decoding import PLAIN, Decoding
from .files import one_line
from .resize import MAX_PIXELS

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""What Pillow is allowed to open."""
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
_BACK = {6: 8, 8: 6}
"""The orientation whose turn undoes that of another, where it is not its own."""
_PAGED = ("TIFF", "WEBP")
_BITS_PER_SAMPLE = 258
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)
"""What Pillow raises of damaged files."""

# Of one text Pillow reads a MiB, and 64 of all; editors keep histories of several in one.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


class PictureError(ValueError):
    """A file that is no image as this project reads them; its message is one line."""


def decode_picture(
    content: bytes, name: Path | str, decoding: Decoding = PLAIN, deep_remedy: str = "convert it to 8 bits"
) -> np.ndarray:
    """The image in a file's content as uint8 RGB [H, W, 3]; its name is for messages. Raises PictureError.

    It is turned upright as its EXIF orientation says, unless the decoding ignores that. Greyscale is repeated in all
    three channels, alpha is dropped. Of 16 bits a channel it is refused, with a remedy, unless there is a scale:
    such images rarely use the whole range, and the upper eight bits, which would be kept, may all be dark.
    """
    image = open_picture(content, name)
    orientation = orientation_to_turn(image, content, name, decoding)
    if (bits := bits_of(image, content)) > 8:
        if decoding.scale is None:
            raise deep_error(name, bits, "an image", deep_remedy)
        image = Image.fromarray(decoding.scaled(_deep_values(content, bits, name)))
    return turned(image, orientation, name)


def turned(image: Image.Image, orientation: int, name: Path | str) -> np.ndarray:
    """An image that lies by an orientation as uint8 RGB [H, W, 3], upright. Raises PictureError."""
    return np.asarray(in_rgb(upright(image, orientation), name))


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """An image that lies by an orientation, upright."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def orientation_back(header: Image.Image) -> int:
    """The orientation that brings a TIFF back as its pixels lie: all decoders turn it, and forget what it said."""
    return _BACK.get(told := orientation_of(header), told)


def orientation_to_turn(image: Image.Image, content: bytes, name: Path | str, decoding: Decoding) -> int:
    """By which the pixels of an image are to be turned, once they are decoded. Raises PictureError."""
    with refusing(name):
        if decoding.orientation == "exif":
            return orientation_of(image)
        if image.format != "TIFF":
            return 1
        with Image.open(BytesIO(content), formats=FORMATS) as header:
            return orientation_back(header)


def _deep_values(content: bytes, bits: int, name: Path | str) -> np.ndarray:
    """The values [H, W] or RGB [H, W, 3] of up to 16 bits in a file that Pillow can decode; it keeps 8 of colours."""
    # OpenCV takes a tenth of a second to import.
    import cv2

    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise PictureError(
            f"{name} has {bits} bits a channel of a kind that is not read: save it with 16 bits, or convert it to 8"
        )
    return values if values.ndim == 2 else values[..., 2::-1]


def open_picture(content: bytes, name: Path | str) -> Image.Image:
    """A file's pixels, as Pillow has them. Raises PictureError for what cannot be decoded, or is too large."""
    if not content:
        raise PictureError(f"{name} is empty: replace it")
    with refusing(name), Image.open(BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PictureError(
                f"{name} has {width} x {height} pixels, but at most {MAX_PIXELS} are read: scale it down"
            )
        if image.format in _PAGED and (pages := getattr(image, "n_frames", 1)) > 1:
            raise PictureError(f"{name} holds {pages} pictures, but one is read: save each in a file of its own")
        image.load()
        return image


def in_rgb(image: Image.Image, name: Path | str) -> Image.Image:
    """An image of any kind in RGB. Raises PictureError where Pillow does not know how."""
    with refusing(name):
        # Straight to RGB, Pillow warns of palettes with transparency.
        return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def bits_of(image: Image.Image, content: bytes) -> int:
    """The bits of a channel or index in the file of an image; Pillow may keep the upper eight alone."""
    if image.format == "PNG":
        # The header's 25th byte.
        return content[24]
    return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) if isinstance(image, TiffImageFile) else 8


def deep_error(name: Path | str, bits: int, kind: str, remedy: str) -> PictureError:
    """That a file has so many bits a channel. Cameras and microscopes use the lower ten or twelve of them."""
    return PictureError(
        f"{name} has {bits} bits a channel, but {kind} has 8, as the upper ones alone may be dark: {remedy}"
    )


def orientation_of(image: Image.Image) -> int:
    """How an image lies, as its EXIF data tell; 1 is upright."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


@contextmanager
def refusing(name: Path | str) -> Iterator[None]:
    """Raises PictureError for what Pillow raises of a file."""
    try:
        yield
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"{name} has far more than the {MAX_PIXELS} pixels that are read: scale it down") from None
    except UnidentifiedImageError:
        raise PictureError(f"{name} is none of PNG, JPEG, TIFF, BMP and WebP: convert it") from None
    except _BROKEN as error:
        raise PictureError(f"{name} cannot be decoded ({one_line(error)}): replace it") from None
