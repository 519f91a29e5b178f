"""A file that a reader finds as it was or as it is, never in between."""

import os
import threading
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, text: str, *, durable: bool = False) -> None:
    """Put a text in the place of a file, at once; a `durable` one outlives a power cut."""
    replace_whole(path, lambda partial: partial.write_text(text), durable=durable)


def replace_whole(path: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Put what `write` puts into a file beside it in the place of a file, at once.

    Other processes and threads may do the same at the same time: the last one's stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        write(partial)
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
