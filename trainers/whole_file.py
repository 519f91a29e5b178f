"""A file that a reader finds as it was or as it is, never in between."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..models.manifest import flush_to_disk


def write_whole(path: Path, text: str, *, durable: bool = False) -> None:
    """Put a text in the place of a file, at once; a `durable` one outlives a power cut."""
    replace_whole(path, lambda partial: partial.write_text(text), durable=durable)


def replace_whole(path: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Put what `write` puts into a file beside it in the place of a file, at once.

    Others may do the same at the same time, on any machine: the last one's stays.
    """
    _put_whole(path, write, Path.replace, durable=durable)


def add_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`replace_whole` where no file is yet. Raises FileExistsError if one is: of several that do so the first one's
    stays."""
    _put_whole(path, write, _link, durable=False)


def _put_whole(
    path: Path, write: Callable[[Path], object], put: Callable[[Path, Path], object], *, durable: bool
) -> None:
    # The file's own name may be as long as a name can be.
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        write(partial)
        if durable:
            flush_to_disk(partial)
        put(partial, path)
        if durable:
            flush_to_disk(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, partial, str(partial)):
            raise
        # Of a full disk Python names no file, and of the partial one nobody has heard.
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        # As a rule it is gone; in a folder that is gone there never was one.
        with suppress(OSError):
            partial.unlink()


def _link(partial: Path, path: Path) -> None:
    """Give a file another name, under which there is none."""
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without such links, as of a memory card, has no way in one step.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        partial.replace(path)


def drop_partials(directory: Path) -> None:
    """Remove the files and directories that killed writers left below a directory, to which nobody else may write."""
    for left in directory.rglob(".*.partial"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
