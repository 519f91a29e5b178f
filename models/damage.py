"""Damage within JPEGs and PNGs that decoders pass over: Pillow says nothing of grey blocks, nor of wrong checksums."""

import re
from pathlib import Path

from .picture_files import PictureError
from .png_damage import SIGNATURE, damage_in_png

_END = b"\xff\xd9"
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_TELLING = ("Corrupt JPEG data", "Premature end")
"""How what libjpeg says of lost pixels begins. It also remarks on headers, of which nothing follows."""


def refuse_damaged(content: bytes, name: Path | str) -> None:
    """Raise PictureError for the content of an image's file that shows damage; its name is for messages."""
    if damage := damage_in(content):
        raise PictureError(f"{name} is damaged ({damage}): replace it, or save it anew if it looks whole")


def damage_in(content: bytes) -> str:
    """What checksums tell of a PNG, or libjpeg of a JPEG's pixels; empty for a whole one, and for other formats.

    Of a JPEG bytes after the last pixel are no damage if all are alike: some cameras pad their files. One wrong byte
    shows in about a third of all places, a lost block of a disk in nearly all.
    """
    if content.startswith(SIGNATURE):
        return damage_in_png(content)
    import simplejpeg  # here, as machines that train from packs alone can do without it

    try:
        # Of an eighth of the size all is read, and less computed.
        simplejpeg.decode_jpeg(content, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        told = str(error)
        return told if told.startswith(_TELLING) and not _is_padding(content, told) else ""
    return ""


def _is_padding(content: bytes, told: str) -> bool:
    found, end = _LEFT_OVER.search(told), content.rfind(_END)
    return found is not None and len({*content[max(0, end - int(found[1])) : end]}) == 1
