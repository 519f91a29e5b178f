"""A disk that can be full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_SIZE = 64 * 2**20
_BLOCK = 4096


def can_mount(folder: Path) -> bool:
    """Whether a disk may be mounted on a folder: root may, outside of most containers."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False)
    if mounted.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    return mounted.returncode == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 MiB in memory, which must be mountable here."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", folder], check=True)
    try:
        yield folder
    finally:
        # Lazily: a process that is just about to end may have it open.
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Meanwhile nothing more can be written to the disk of a folder."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(_BLOCK))
                except OSError:
                    break
            yield
    finally:
        ballast.unlink()


@contextmanager
def without_room(pid: int) -> Iterator[None]:
    """Meanwhile a process, as long as it lives, can write no more than a block to any file."""
    process = psutil.Process(pid)
    _, most = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (_BLOCK, most))
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_FSIZE, (most, most))
