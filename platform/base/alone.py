"""A folder in which one process at a time works."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...trainers.errors import UserError


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else is in a folder, which is made if need be, while this lasts. Raises UserError if somebody is.

    It is the folder itself that is locked: nothing is left of a process that was killed. Where a file system has no
    locks, as some networks' have none, everybody gets in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process trains in {folder}: wait until it ends, or train in another folder"
                ) from None
        yield
    finally:
        os.close(descriptor)
