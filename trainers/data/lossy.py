"""Which image files do not keep class ids, as they were compressed with loss."""

import struct

from PIL import Image

_JPEG_IN_TIFF = ("jpeg", "tiff_jpeg")
"""How Pillow calls the new and the old kind."""
_CHUNK = struct.Struct("<4sI")


def lossy_kind(image: Image.Image, content: bytes) -> str | None:
    """What kind of file an image with loss is in, with its article; None without loss."""
    match image.format:
        case "PNG" | "BMP":
            return None
        case "TIFF":
            return "a TIFF compressed as JPEG" if image.info.get("compression") in _JPEG_IN_TIFF else None
        case "WEBP":
            return "a WebP with loss" if _has_loss(content) else None
    return f"a {image.format}"


def _has_loss(webp: bytes) -> bool:
    """Whether one of the chunks of a WebP is a picture with loss; others are "VP8L", or about it."""
    at = 12
    while at + _CHUNK.size <= len(webp):
        kind, size = _CHUNK.unpack_from(webp, at)
        if kind == b"VP8 ":
            return True
        at += _CHUNK.size + size + size % 2
    return False
