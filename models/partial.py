"""A directory on its way: written beside its place, under a name of its own, and nothing of it is left."""

import fcntl
import glob
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def partial_of(path: Path) -> Iterator[Path]:
    """A new directory beside a path, which no other process of any machine writes to; it is gone at the end.

    So are those that killed writers of the same path left on this machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = f".{path.name}.{socket.gethostname()}-"
    for left in path.parent.glob(f"{glob.escape(beside)}*.partial"):
        _drop_if_left(left)
    partial, lock = _made(path, beside)
    try:
        yield partial
    finally:
        try:
            # It may be gigabytes that nobody will look for.
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(lock)


def drop(path: Path) -> None:
    """Take a directory away at once: nobody is to find half of one, which would count as damaged."""
    # Another process may have taken it.
    with partial_of(path) as partial, suppress(FileNotFoundError):
        path.rename(partial / path.name)


def _made(path: Path, beside: str) -> tuple[Path, int]:
    """A new directory and a descriptor that holds its lock."""
    while True:
        partial = path.with_name(f"{beside}{secrets.token_hex(8)}.partial")
        partial.mkdir()
        # Until it is locked another writer may take it for one that was left.
        with suppress(FileNotFoundError):
            lock = os.open(partial, os.O_RDONLY)
            _lock(lock)
            if partial.exists():
                return partial, lock
            os.close(lock)


def _drop_if_left(partial: Path) -> None:
    """Remove a directory whose writer is gone: the kernel lets go of its lock. Where there are no locks it stays."""
    try:
        lock = os.open(partial, os.O_RDONLY)
    except OSError:
        return
    try:
        if _lock(lock, fcntl.LOCK_NB):
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(descriptor: int, flag: int = 0) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flag)
    except OSError:
        return False
    return True
