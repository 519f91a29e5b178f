"""Reading files that somebody named: a pipe or a device in the place of one would wait, or never end."""

import errno
import os
from pathlib import Path

from .files import open_regular

MOST_BYTES = 2**30
"""Of a file that is read; the largest image that is decoded has half as many."""


def read_regular(path: Path) -> bytes:
    """The content of a regular file, or of one that links lead to.

    Raises OSError, without waiting, for anything else.
    """
    try:
        file = open_regular(path)
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL character", str(path)) from None
    with file:
        if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, but at most {MOST_BYTES:,} are read", str(path))
        content = file.raw.read()
    if content is None:
        # Some files of /proc, which count as regular ones.
        raise OSError(errno.EAGAIN, "it would have to be waited for", str(path))
    return content
