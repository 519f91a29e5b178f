"""A folder in which one process at a time works."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...models.regular_file import read_regular
from ...trainers.errors import UserError
from ...trainers.whole_file import write_whole

OCCUPANT = ".occupant"
"""Names the process that works in a folder; what one that was killed leaves means nothing."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else is in a folder, which is made if need be, while this lasts. Raises UserError if somebody is.

    It is the folder itself that is locked: one that was killed is in the way of nobody. Where a file system has no
    locks, as some networks' have none, everybody gets in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    occupant, descriptor = folder / OCCUPANT, os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process trains in {folder}{_named_in(occupant)}: wait until it ends, or train in another "
                    f"folder"
                ) from None
            write_whole(occupant, f"pid {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            with suppress(OSError):
                occupant.unlink()
    finally:
        os.close(descriptor)


def _named_in(occupant: Path) -> str:
    try:
        return f" ({read_regular(occupant).decode()})"
    except (OSError, ValueError):
        return ""  # One of an older version says nothing.
