"""A file that is made once, however many threads and processes of a machine ask for it at the same time."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def make_once(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Make a file unless it is there. Whoever else asks meanwhile waits until it is, or writes it if that failed.

    It is there whole or not at all: a file beside it, which its writer locks, takes its name. What a writer that was
    killed has left of that one is written over. Raises what `write` raises.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with _naming(path), partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            # The writer that was waited for gave it that name; this may be another file.
            partial.unlink(missing_ok=True)
            return
        try:
            file.truncate(0)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            partial.rename(path)
        except BaseException:
            file.truncate(0)
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raises OSErrors that do not say where, as of a full disk, as such of a file."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
