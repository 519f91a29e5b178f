"""The folder in which a machine keeps copies of what lies elsewhere, named by their content, and which of them go.

A copy is a folder whose name ends with the bytes that it may come to hold. It is in use while a process lives that has
asked for it, which holds a shared lock of it.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from ...trainers.errors import BrokenEnvironmentError

LIMIT = "ADVSEG_CACHE_GIB"
"""Environment variable with the size, in GiB, that all copies of a machine have together at most."""
_DEFAULT_GIB = 50.0
_GIB = 2**30

_held: dict[Path, int] = {}
"""Descriptors of the copies that this process uses."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One that there is."""

    folder: Path
    bytes: int
    used: float
    """When it was last asked for, in seconds since some moment."""
    idle: bool
    """Whether no living process uses it."""


def giving_way(copies: Sequence[Copy], needed: int, limit: int) -> list[Copy] | None:
    """Which copies go for so many more bytes, those first that were used longest ago; None if all do not suffice."""
    excess = sum(copy.bytes for copy in copies) + needed - limit
    going: list[Copy] = []
    for copy in sorted((copy for copy in copies if copy.idle), key=lambda copy: copy.used):
        if excess <= 0:
            break
        going.append(copy)
        excess -= copy.bytes
    return going if excess <= 0 else None


@dataclass(frozen=True)
class Cache:
    """A folder of copies; it may be deleted at any time."""

    root: Path
    limit: int = int(_DEFAULT_GIB * _GIB)
    """Bytes of all copies together."""

    def keep(self, kind: str, name: str, size: int) -> Path:
        """The folder of a copy that may come to hold so many bytes, made unless it is there, and in use from now on.

        Copies that nobody uses give way to it. Raises BrokenEnvironmentError if they do not suffice.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.root / kind / f"{name}-{size}"
        with _locked(self.root):
            if not folder.is_dir():
                self._make_room(size)
                folder.mkdir(parents=True)
            os.utime(folder)
            _hold(folder)
        return folder

    def _make_room(self, size: int) -> None:
        copies = list(self._copies())
        going = giving_way(copies, size, self.limit)
        if going is None:
            used = sum(copy.bytes for copy in copies if not copy.idle)
            raise BrokenEnvironmentError(
                f"on {socket.gethostname()}: a copy of {_gib(size)} does not fit into {self.root}, which may hold "
                f"{_gib(self.limit)}, of which {_gib(used)} are in use: raise {LIMIT} there"
            )
        for copy in going:
            shutil.rmtree(copy.folder, ignore_errors=True)

    def _copies(self) -> Iterator[Copy]:
        for folder in self.root.glob("*/*-*"):
            size = folder.name.rpartition("-")[2]
            if size.isdecimal() and folder.is_dir():
                yield Copy(folder=folder, bytes=int(size), used=folder.stat().st_mtime, idle=_is_idle(folder))


def machine_cache() -> Cache:
    """That of this user on this machine. Raises BrokenEnvironmentError for a limit that is none."""
    text = os.environ.get(LIMIT, str(_DEFAULT_GIB))
    try:
        if not 0 < (limit := float(text) * _GIB) < float("inf"):
            raise ValueError
    except ValueError:
        raise BrokenEnvironmentError(
            f"on {socket.gethostname()}: {LIMIT} is {text!r}, but must be a number of GiB above 0"
        ) from None
    return Cache(user_cache_path("advseg"), int(limit))


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Nobody else makes room, or begins to use a copy, meanwhile; where there are no locks nothing is idle."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hold(folder: Path) -> None:
    """Use a copy as long as this process lives."""
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    # Of another folder, if somebody has deleted that.
    if (former := _held.pop(folder, None)) is not None:
        os.close(former)
    _held[folder] = descriptor


def _is_idle(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
