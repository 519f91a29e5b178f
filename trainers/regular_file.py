"""Reading files that somebody named: a pipe or a device in the place of one would wait, or never end."""

import errno
import io
import os
import stat
from pathlib import Path

MOST_BYTES = 2**30
"""Of a file that is read; the largest image that is decoded has half as many."""
_KINDS = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
}


def read_regular(path: Path) -> bytes:
    """The content of a regular file, or of one that links lead to.

    Raises OSError, without waiting, for anything else.
    """
    with open_regular(path) as file:
        content = file.raw.read()
    if content is None:
        raise OSError(errno.EAGAIN, "it would have to be waited for", str(path))
    return content


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file, or one that links lead to, to read from. Raises OSError, without waiting, for anything else."""
    try:
        # Opening a device may already do something.
        _check(path, path.stat())
        file = io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL character", str(path)) from None
    try:
        _check(path, os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return io.BufferedReader(file)


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "it is no file")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
    if status.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, but at most {MOST_BYTES:,} are read", str(path))
