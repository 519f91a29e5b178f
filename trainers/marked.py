"""What `predict` writes says so, and of what it was made, and shows whether somebody has changed it since."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

_SOFTWARE, _BY = "Software", "advseg predict"
"""A key of PNG's standard, and its text."""
_MADE_OF, _DIGEST = "advseg made of", "advseg digest"
_PNG, _PNG_END, _ZIP = b"\x89PNG", b"IEND\xaeB`\x82", b"PK"
_BROKEN = (
    *(OSError, ValueError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What Pillow and NumPy raise of a file that is damaged, or another's."""


def made_of(model: str, image: bytes, *, averaged: bool) -> str:
    """What stands for all that determines a mask: a model's checksum, the content of an image's file, and how it is
    read."""
    whole = json.dumps([version("advseg"), model, averaged, hashlib.sha256(image).hexdigest()])
    return hashlib.sha256(whole.encode()).hexdigest()


def marked_png(image: Image.Image, made_of: str) -> bytes:
    """An image as a PNG that says of what it was made."""
    text = PngInfo()
    for key, value in {_SOFTWARE: _BY, _MADE_OF: made_of, _DIGEST: _digest_of(image)}.items():
        text.add_text(key, value)
    content = BytesIO()
    image.save(content, format="PNG", pnginfo=text)
    return content.getvalue()


def marked_npz(probabilities: np.ndarray, classes: Sequence[str], made_of: str) -> bytes:
    """Class probabilities [K, H, W] and the names of the classes for `numpy.load`, and of what they were made."""
    content = BytesIO()
    mark = np.array([_BY, made_of, _digest_of(probabilities)])
    np.savez(content, probabilities=probabilities, classes=np.array(classes), mark=mark)
    return content.getvalue()


def is_ours(content: bytes) -> bool:
    """Whether a file was written by `predict`, and perhaps changed since."""
    return _mark_and_digest(content) is not None


def origin_of(content: bytes) -> str | None:
    """Of what a file was made that `predict` wrote; None if it wrote it not, or not as it is now."""
    found = _mark_and_digest(content)
    return found[0] if found and found[1] == found[2] else None


def _mark_and_digest(content: bytes) -> tuple[str, str, str] | None:
    """Of what a file of ours was made, and its digests then and now."""
    try:
        if content.startswith(_PNG) and content.endswith(_PNG_END):
            with Image.open(BytesIO(content), formats=("PNG",)) as image:
                if image.info.get(_SOFTWARE) != _BY:
                    return None
                return image.info[_MADE_OF], image.info[_DIGEST], _digest_of(image)
        if content.startswith(_ZIP):
            with np.load(BytesIO(content)) as arrays:
                by, made_of, digest = arrays["mark"].tolist()
                if by != _BY:
                    return None
                return made_of, digest, _digest_of(arrays["probabilities"])
    except _BROKEN:
        pass
    return None


def _digest_of(data: Image.Image | np.ndarray) -> str:
    """Of what an array holds, or of an image's values and colours, however it is compressed."""
    if isinstance(data, np.ndarray):
        return hashlib.sha256(repr((data.dtype.str, data.shape)).encode() + data.tobytes()).hexdigest()
    colours = data.convert("RGB").tobytes() if data.mode == "P" else b""
    return hashlib.sha256(repr((data.mode, data.size)).encode() + data.tobytes() + colours).hexdigest()
