"""A directory that is whole or does not count: SHA-256 of every file in `MANIFEST.json`, written last."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import is_inside, is_plain, open_regular, read_document, shown
from .partial import partial_of

MANIFEST = "MANIFEST.json"
FORMAT_VERSION = 2


class BrokenDirectoryError(ValueError):
    """A directory without a manifest, or one whose files differ from it or hold something else than they should."""


class FormatVersionError(BrokenDirectoryError):
    """A directory with a whole manifest of another format: undamaged perhaps, but not for this program to read."""


def write_directory(path: Path, write: Callable[[Path], None]) -> None:
    """Fill a new directory by `write` and seal it: afterwards `path` is there whole, or as it was before.

    An older directory of that name is replaced in one step. A file system that cannot exchange two directories
    needs two: a crash in the instant between them leaves neither. Others may write the same path at the same time,
    on any machine: the last one's stays.
    """

    def write_sealed(new: Path) -> None:
        write(new)
        _seal(new)

    replace_directory(path, write_sealed)


def replace_directory(path: Path, write: Callable[[Path], None]) -> None:
    """As `write_directory`, of what brings its manifest along."""
    with partial_of(path) as partial:
        new = partial / "new"
        new.mkdir()
        try:
            write(new)
            for entry in (*new.rglob("*"), new):
                flush_to_disk(entry)
        except OSError as error:
            # What fails in writing, as on a full disk, does not say where.
            if error.errno and error.filename is None:
                error.filename = str(path)
            raise
        _put(new, path, replaced=partial / "replaced")
        flush_to_disk(path.parent)


def _seal(directory: Path) -> None:
    files = {
        str(file.relative_to(directory)): file_digest(file) for file in sorted(directory.rglob("*")) if file.is_file()
    }
    manifest = {"format_version": FORMAT_VERSION, "files": files, "checksum": _checksum(FORMAT_VERSION, files)}
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _put(new: Path, path: Path, replaced: Path) -> None:
    """Give a directory its name; one that had it before gets the name `new` or `replaced`."""
    while not (path.is_dir() and _exchange(new, path)):
        with suppress(FileNotFoundError):
            if path.is_dir():
                path.rename(replaced)
        try:
            new.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Another writer was there first: it is the one to be replaced now.
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            return


def verify_directory(path: Path, only: Collection[str] | None = None, needs: Collection[str] = ()) -> None:
    """Raise BrokenDirectoryError, in one line, unless every file, or each of some, is the one that the manifest names.

    The manifest must name `only` and `needs`. Names are plain and relative, files regular and inside the directory.
    Raises FormatVersionError for a manifest of another format.
    """
    files = read_manifest(path)
    for name in (*needs, *(only or ())):
        if name not in files:
            raise BrokenDirectoryError(f"{path} does not hold {name}: its {MANIFEST} does not list it")
    for name in files if only is None else only:
        file = path / name
        try:
            found = file_digest(file) if is_inside(file, path) else None
        except (FileNotFoundError, NotADirectoryError):
            raise BrokenDirectoryError(f"{path} lacks {name}") from None
        except OSError as error:
            raise BrokenDirectoryError(f"{file} cannot be read ({error.strerror})") from None
        if found is None:
            raise BrokenDirectoryError(f"{file} is a link out of its folder")
        if found != files[name]:
            raise BrokenDirectoryError(f"{file} differs from its checksum in {MANIFEST}")


def read_manifest(path: Path) -> dict[str, str]:
    """The SHA-256 of each file by its name, as a directory's manifest has it. Raises as `verify_directory` does."""
    if not is_inside(path / MANIFEST, path):
        raise BrokenDirectoryError(f"{path / MANIFEST} is a link out of its folder")
    try:
        manifest = read_document(path / MANIFEST)
        version, files = manifest["format_version"], manifest["files"]
        whole = manifest["checksum"] == _checksum(version, files)
    except (FileNotFoundError, NotADirectoryError):
        lack = f"has no {MANIFEST}: it was never finished" if path.exists() else "is not there"
        raise BrokenDirectoryError(f"{path} {lack}") from None
    except KeyError as error:
        raise BrokenDirectoryError(f"{path / MANIFEST} cannot be read (it has no {error.args[0]})") from None
    except TypeError:
        raise BrokenDirectoryError(f"{path / MANIFEST} cannot be read (it is no object)") from None
    except OSError as error:
        raise BrokenDirectoryError(f"{path / MANIFEST} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BrokenDirectoryError(f"{path / MANIFEST} cannot be read ({error})") from None
    if not whole:
        raise BrokenDirectoryError(f"{path / MANIFEST} differs from its own checksum")
    if version != FORMAT_VERSION:
        raise FormatVersionError(f"{path} has format version {shown(version)}, but this program reads {FORMAT_VERSION}")
    if not isinstance(files, dict):
        raise BrokenDirectoryError(f"{path / MANIFEST} names no files, but {shown(files)}")
    for name in files:
        if not is_plain(name):
            raise BrokenDirectoryError(
                f"{path / MANIFEST} names the file {shown(name)}, which is no plain name inside the folder"
            )
    return files


def checksum_of(path: Path) -> str | None:
    """The checksum by which a directory's manifest stands for all that it names; None if there is none to read."""
    try:
        return str(read_document(path / MANIFEST)["checksum"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def file_digest(path: Path) -> str:
    """The SHA-256 of a regular file. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(version: Any, files: Any) -> str:
    """Of what a manifest says, so that damage to it does not pass for another format version."""
    return hashlib.sha256(json.dumps([version, files], sort_keys=True).encode()).hexdigest()


def flush_to_disk(path: Path) -> None:
    """Wait until what a file or a directory holds is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step, as Linux does on most file systems; False where that cannot be done."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
