"""Files that a verb leaves: whole, never through a link, and never in the place of what is no file."""

from functools import partial
from pathlib import Path

from PIL import Image

from ..trainers.errors import UserError
from ..trainers.whole_file import replace_whole


def refuse_other_than_file(path: Path) -> None:
    """Raise UserError if something is in the place of a file that is none: a link, a folder, a pipe, a device."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path} is there and no regular file: remove it, or name another place to write to")


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG, at once. A link of that name is replaced, not followed."""
    replace_whole(path, partial(picture.save, format="PNG"))
