"""Putting masks, and what lies beside them, in their places, in which others may write meanwhile."""

import errno
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ..models.regular_file import read_regular
from ..platform.base.exits import of_file
from ..platform.base.keys import S3
from ..platform.storage.opening import open_store
from ..platform.storage.store import MissingKeyError
from ..trainers.errors import UserError
from ..trainers.marked import origin_of
from ..trainers.whole_file import add_whole, replace_whole
from .outputs import refuse_other_than_file

_OF_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of a disk, and so of every file on it."""

Write = Callable[[str, bytes], object]


def writer(to: str, there: Mapping[str, str], *, overwrite: bool) -> Callable[[str, bytes, str], None]:
    """What puts a file in its place, at once, by its name, content and of what it was made.

    It raises UserError for one that cannot be put there, or would replace another than `there` was unless it may be
    overwritten, and OSError where none can be put.
    """
    look, add, replace = _in_bucket(to) if to.startswith(S3) else _in_folder(Path(to))

    def put(name: str, content: bytes, origin: str) -> None:
        if overwrite:
            replace(name, content)
        elif (found := look(name)) is None:
            add(name, content)
        elif origin_of(found) in (there.get(name, origin), origin):
            replace(name, content)
        else:
            raise UserError(
                f"{to.rstrip('/')}/{name} came or was changed while predict ran, and stays: name another place with "
                f"--to, or replace it with --overwrite"
            )

    def put_or_tell(name: str, content: bytes, origin: str) -> None:
        try:
            put(name, content, origin)
        except OSError as error:
            if error.errno in _OF_ALL:
                raise
            raise UserError(of_file(error)) from None

    return put_or_tell


def _in_bucket(to: str) -> tuple[Callable[[str], bytes | None], Write, Write]:
    store = open_store(to)

    def look(name: str) -> bytes | None:
        try:
            return store.read(name)
        except MissingKeyError:
            return None

    return look, store.write, store.write


def _in_folder(folder: Path) -> tuple[Callable[[str], bytes | None], Write, Write]:
    def look(name: str) -> bytes | None:
        path = folder / name
        refuse_other_than_file(path)
        try:
            return read_regular(path)
        except FileNotFoundError:
            return None

    def write(by: Callable[[Path, Callable[[Path], object]], None], name: str, content: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        by(path, partial(Path.write_bytes, data=content))

    return look, partial(write, add_whole), partial(write, replace_whole)
