"""A directory that is whole or does not count: SHA-256 of every file in `MANIFEST.json`, written last."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

MANIFEST = "MANIFEST.json"
FORMAT_VERSION = 1


class BrokenDirectoryError(ValueError):
    """A directory without a manifest, or one whose files differ from it."""


def write_directory(path: Path, write: Callable[[Path], None]) -> None:
    """Fill a new directory by `write` and seal it: afterwards `path` is there whole, or as it was before.

    An older directory of that name is replaced; a crash in the instant between the two leaves neither.
    """
    partial, replaced = (path.with_name(f".{path.name}.{state}") for state in ("partial", "replaced"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    files = {
        str(file.relative_to(partial)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(partial.rglob("*"))
        if file.is_file()
    }
    for name in files:
        _flush_to_disk(partial / name)
    manifest = {"format_version": FORMAT_VERSION, "files": files}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
    _flush_to_disk(partial / MANIFEST)
    if path.is_dir():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    partial.rename(path)
    _flush_to_disk(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def verify_directory(path: Path) -> None:
    """Raise BrokenDirectoryError, in one line, unless every file is the one that the manifest names."""
    try:
        manifest: Any = json.loads((path / MANIFEST).read_text())
        version, files = manifest["format_version"], dict(manifest["files"])
    except (FileNotFoundError, NotADirectoryError):
        raise BrokenDirectoryError(f"{path} has no {MANIFEST}: it was never finished") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenDirectoryError(f"{path / MANIFEST} cannot be read ({error})") from None
    if version != FORMAT_VERSION:
        raise BrokenDirectoryError(f"{path} has format version {version}, but this program reads {FORMAT_VERSION}")
    for name, digest in files.items():
        file = path / name
        if not file.is_file():
            raise BrokenDirectoryError(f"{path} lacks {name}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise BrokenDirectoryError(f"{file} differs from its checksum in {MANIFEST}")


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
