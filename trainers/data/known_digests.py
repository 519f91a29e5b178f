"""Digests of datasets that this machine has read, by what shows that no file has changed since.

Every attempt and every worker of a training opens its dataset; only the first one on a machine reads all of it.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..progress import tick
from ..whole_file import write_whole

_FORMAT = 3
"""Goes up when a dataset of the same files is judged otherwise."""
_TICK_NS = 2_000_000_000
"""A file that has changed within this may change again, and no time of it would show."""


def stamp_of(described: object, files: Iterable[Path]) -> str | None:
    """What is the same as long as a description and all that the system knows of some files are.

    None if one is not there, or has changed just now.
    """
    digest = hashlib.sha256(repr((_FORMAT, described)).encode())
    newest = time.time_ns() - _TICK_NS
    for path in files:
        tick()
        try:
            found = path.stat()
        except OSError:
            return None
        if found.st_ctime_ns > newest:
            return None
        seen = (str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(repr(seen).encode())
    return digest.hexdigest()


def known_digest(stamp: str) -> tuple[str, frozenset[str]] | None:
    """The digest that was kept under a stamp, and the images whose masks were not used."""
    with suppress(OSError):
        folder = _folder()
        # Anybody may make a folder here: one that others can write to proves nothing.
        found = folder.stat()
        if found.st_uid == os.getuid() and not found.st_mode & 0o022:
            digest, *unused = (folder / stamp).read_text(encoding="utf-8").split("\n")
            return digest, frozenset(unused)
    return None


def keep_digest(stamp: str, digest: str, unused: Iterable[str]) -> None:
    """Keep both under a stamp; where that cannot be done, the dataset is read again."""
    with suppress(OSError):
        _folder().mkdir(mode=0o700, exist_ok=True)
        write_whole(_folder() / stamp, "\n".join([digest, *unused]))


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"advseg.digests.{os.getuid()}"
