"""Files that nobody vouches for: only regular ones are opened, only those of a folder belong to it."""

import errno
import json
import os
import reprlib
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

MAX_DOCUMENT_MIB = 4
"""A larger JSON document is refused before it is read."""
MAX_DEPTH = 64
"""Levels of lists and objects in each other, beyond which a JSON document is refused."""
_SHOWN = 300
"""Characters of an error."""
_SHOWN_VALUE = 80


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read. Raises OSError for a pipe or a device, too: they can keep a reader for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    # Whoever put a pipe there in the meantime does not keep us either.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def one_line(error: BaseException) -> str:
    """What an error says, in one line that can be printed: of a file's own words there may be anything in it."""
    line = " ".join(str(error).split())
    return "".join(character if character.isprintable() else "?" for character in line[:_SHOWN])


def shown(value: object) -> str:
    """A value for a message, however large it is."""
    text = reprlib.repr(value)
    return text if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}..."


def is_plain(name: str) -> bool:
    """Whether a name, with slashes between folders, leads to a place inside the folder that it is relative to."""
    return name.isprintable() and all(part not in ("", ".", "..") for part in name.split("/"))


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder, all links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def read_document(path: Path) -> Any:
    """The JSON document in a file. Raises OSError, and ValueError as `document_of` does."""
    with open_regular(path) as file:
        return document_of(file.read(MAX_DOCUMENT_MIB * 2**20 + 1))


def document_of(content: bytes) -> Any:
    """A JSON document. Raises ValueError for one that is none, too large or too deep."""
    if len(content) > MAX_DOCUMENT_MIB * 2**20:
        raise ValueError(f"it is larger than {MAX_DOCUMENT_MIB} MiB")
    deep = f"it is nested deeper than {MAX_DEPTH} levels"
    try:
        document = json.loads(content.decode())
    except RecursionError:
        raise ValueError(deep) from None
    if not _is_shallow(document):
        raise ValueError(deep)
    return document


def _is_shallow(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        nests = [value for value in level if isinstance(value, dict | list)]
        level = [child for nest in nests for child in (nest.values() if isinstance(nest, dict) else nest)]
    return not level
