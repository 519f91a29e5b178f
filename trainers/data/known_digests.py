"""What this machine has learnt from reading datasets, by what shows that no file has changed since.

Every attempt and every worker of a training opens its dataset; only the first one on a machine reads all of it. No
machine believes what another has read: a copy whose files have the same sizes and times may hold other bytes.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..progress import tick
from ..whole_file import write_whole

_FORMAT = 4
"""Goes up when a dataset of the same files is judged otherwise."""
_TICK_NS = 2_000_000_000
"""A file that has changed within this may change again, and no time of it would show."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What all files of a dataset showed when they were read."""

    digest: str
    unused: frozenset[str]
    """Ids of unlabelled images whose masks are not used."""
    notes: tuple[str, ...]


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


def known(stamp: str) -> Known | None:
    """What was kept under a stamp."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        folder = _folder()
        # Anybody may make a folder here: one that others can write to proves nothing.
        found = folder.stat()
        if found.st_uid == os.getuid() and not found.st_mode & 0o022:
            said = json.loads((folder / stamp).read_text(encoding="utf-8"))
            return Known(digest=said["digest"], unused=frozenset(said["unused"]), notes=tuple(said["notes"]))
    return None


def keep(stamp: str, found: Known) -> None:
    """Keep it under a stamp; where that cannot be done, the dataset is read again."""
    with suppress(OSError):
        _folder().mkdir(mode=0o700, exist_ok=True)
        write_whole(_folder() / stamp, json.dumps({**asdict(found), "unused": sorted(found.unused)}))


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"advseg.digests.{os.getuid()}"
