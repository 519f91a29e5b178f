"""Reading images and masks from files that nobody vouches for."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import UserError

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 64_000_000
"""A larger image is refused: a small file can unpack to gigabytes."""


class ImageError(UserError):
    """A file that is not an image or mask as this project reads them."""


def read_image(path: Path) -> np.ndarray:
    """An image as uint8 RGB [H, W, 3]; greyscale and palette images are converted."""
    image = _open(path)
    if image.mode.startswith("I"):
        raise ImageError(f"{path} is a greyscale image of 16 bits, but images have 8 bits a channel: convert it")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """A mask as uint8 class ids [H, W]: the indices of a palette PNG, or the values of a greyscale one."""
    image = _open(path)
    if image.mode not in ("P", "L"):
        raise ImageError(
            f"{path} is a {image.mode} image, but a mask holds class ids as a palette or greyscale PNG: convert it"
        )
    return np.asarray(image)


def read_palette(path: Path) -> list[tuple[int, int, int]] | None:
    """The RGB palette of a palette PNG, None for a greyscale mask."""
    flat = _open(path).getpalette("RGB")
    if flat is None:
        return None
    return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]


def write_mask(path: Path, mask: np.ndarray, palette: list[tuple[int, int, int]]) -> None:
    """Write class ids uint8 [H, W] as a palette PNG."""
    image = Image.fromarray(mask)
    image.putpalette([value for colour in palette for value in colour])
    image.save(path, format="PNG")


def voc_palette(colours: int = 256) -> list[tuple[int, int, int]]:
    """The colour map of PASCAL VOC: the bits of the index, spread over the high bits of R, G and B."""
    palette = []
    for index in range(colours):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        palette.append((colour[0], colour[1], colour[2]))
    return palette


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{path} has {width} x {height} pixels, but at most {MAX_PIXELS} are read: scale it down"
                )
            image.load()
            return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{path} has far more than the {MAX_PIXELS} pixels that are read: scale it down") from None
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is neither PNG nor JPEG: convert it") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} cannot be decoded ({error}): replace it") from None
