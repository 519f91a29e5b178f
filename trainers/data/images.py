"""Reading images and masks from files that nobody vouches for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ...models.files import open_regular
from ..errors import UserError
from ..regular_file import read_regular

Colour = tuple[int, int, int]

IGNORE_INDEX = 255
"""Id of pixels that count nowhere, unless a dataset's settings say otherwise; in files of Cityscapes always."""
FORMATS = ("PNG", "JPEG")
SUFFIXES = (".jpg", ".jpeg", ".png")
"""How the names of image files end, in lower case."""
READERS = 8
"""Files that are read and decoded at the same time."""
MAX_PIXELS = 64_000_000
"""A larger image is refused: a small file can unpack to gigabytes."""
_SHOWN_COLOURS = 3
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
_SIDEWAYS = range(5, 9)
"""Orientations that exchange height and width."""
_EXIF_OF_PNG = ("exif", "Raw profile type exif")


class ImageError(UserError):
    """A file that is not an image or mask as this project reads them."""


@dataclass(frozen=True, kw_only=True)
class MaskCoding:
    """What the values in a mask file stand for; by default each is a class id."""

    ignore_index: int = IGNORE_INDEX
    table: tuple[int, ...] = ()
    """Class ids of the values from 0; the last one is that of all higher values too."""
    colours: tuple[Colour, ...] = ()
    """Colours of the classes from 0, for RGB masks."""
    ignored: tuple[Colour, ...] = ()
    """Colours of pixels that count nowhere, for RGB masks."""


def read_image(path: Path) -> np.ndarray:
    """An image as uint8 RGB [H, W, 3]. Raises ImageError.

    It is turned upright as its EXIF orientation says. Greyscale is repeated in all three channels, alpha is
    dropped, of 16 bits a channel the upper eight are kept. Greyscale of 16 bits is refused: such images
    rarely use the whole range, and their upper eight bits may all be dark.
    """
    return decode_image(read_file(path), path)


def read_mask(path: Path, coding: MaskCoding | None = None) -> np.ndarray:
    """A mask as class ids [H, W]: uint8, or int32 if it has 16 bits or an ignore index above 255. Raises ImageError.

    The file is a PNG: a palette, whose indices count, greyscale of up to 16 bits, or RGB where the coding knows
    its colours (alpha is dropped). It is never turned: a mask fits its image as that is seen.
    """
    return decode_mask(read_file(path), path, coding)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as `read_image` turns it, from its header. Raises ImageError.

    An orientation that a PNG tells only after its pixels is not seen: they would have to be unpacked for it.
    """
    with _opened(path) as file, _refusing(path), Image.open(file, formats=FORMATS) as header:
        width, height = header.size
        tells = header.format == "JPEG" or not header.info.keys().isdisjoint(_EXIF_OF_PNG)
        return (width, height) if tells and _orientation(header) in _SIDEWAYS else (height, width)


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
    image = _open(content, path, upright=True)
    if image.mode.startswith("I"):
        raise ImageError(
            f"{path} is a greyscale image of 16 bits, but images have 8 bits a channel: scale its values and convert it"
        )
    if image.mode == "P":
        # Straight to RGB, Pillow warns of palettes with transparency.
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def decode_mask(content: bytes, path: Path, coding: MaskCoding | None = None) -> np.ndarray:
    """`read_mask` of a file that was read already; the path is for messages."""
    coding = coding or MaskCoding()
    image = _open(content, path)
    if image.format != "PNG":
        raise ImageError(f"{path} is a {image.format}, which does not keep class ids: save the mask as PNG")
    if image.mode in ("RGB", "RGBA") and coding.colours:
        return _ids_of_colours(np.asarray(image.convert("RGB")), path, coding)
    if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
        raise ImageError(
            f"{path} is a {image.mode} image, but a mask holds class ids as a palette or greyscale PNG: convert it, "
            f"or name every class's colour in the classes.yaml of layout folder"
        )
    ids = np.asarray(image)
    if image.mode == "L":
        # Pillow stretches greyscale of 2 or 4 bits over 0...255. The header's 25th byte is the bits a value.
        ids = ids // (255 // (2 ** content[24] - 1))
    if coding.table:
        ids = np.take(np.array(coding.table, np.int32), ids, mode="clip")
    narrow = ids.dtype != np.uint16 and mask_dtype(max(coding.ignore_index, *coding.table, 0)) == np.uint8
    return ids.astype(np.uint8 if narrow else np.int32)


def mask_dtype(highest: int) -> type[np.uint8] | type[np.int32]:
    """The type of masks whose ids, with the ignore index, go up to `highest`."""
    return np.uint8 if highest <= 255 else np.int32


def _ids_of_colours(pixels: np.ndarray, path: Path, coding: MaskCoding) -> np.ndarray:
    ids = [*range(len(coding.colours)), *[coding.ignore_index] * len(coding.ignored)]
    known = _numbers(np.array([*coding.colours, *coding.ignored], np.uint8))
    order = np.argsort(known)
    numbers = _numbers(pixels)
    places = np.searchsorted(known, numbers, sorter=order).clip(max=len(known) - 1)
    found = order[places]
    if unknown := np.unique(numbers[known[found] != numbers]).tolist():
        shown = ", ".join(f"[{n >> 16}, {n >> 8 & 255}, {n & 255}]" for n in unknown[:_SHOWN_COLOURS])
        more = f" and {len(unknown) - _SHOWN_COLOURS} more" if len(unknown) > _SHOWN_COLOURS else ""
        raise ImageError(
            f"{path} holds colours that classes.yaml does not name, {shown}{more}: add them there or mend the mask"
        )
    return np.array(ids, mask_dtype(max(ids)))[found]


def _numbers(pixels: np.ndarray) -> np.ndarray:
    """One number for each colour, of uint8 [..., 3]."""
    return pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def read_palette(path: Path) -> list[Colour] | None:
    """The RGB palette of a palette PNG, None for another mask."""
    flat = _open(read_file(path), path).getpalette("RGB")
    if flat is None:
        return None
    return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]


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


def _open(content: bytes, path: Path | str, *, upright: bool = False) -> Image.Image:
    with _refusing(path), Image.open(BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{path} has {width} x {height} pixels, but at most {MAX_PIXELS} are read: scale it down")
        image.load()
        turn = _TURNS.get(_orientation(image)) if upright else None
        return image if turn is None else image.transpose(turn)


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
        raise ImageError(f"{path} is neither PNG nor JPEG: convert it") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} cannot be decoded ({error}): replace it") from None
