"""A store in a folder."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from ...models.files import is_plain, open_regular
from ...models.manifest import MANIFEST, read_manifest, verify_directory
from ...models.partial import drop
from ...trainers.whole_file import replace_whole
from .folders import copy_folder
from .store import Entry, MissingKeyError, checked

_ABSENT = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class LocalStore:
    """A folder, which all machines see alike."""

    root: Path

    @property
    def address(self) -> str:
        return str(self.root)

    @property
    def folder(self) -> Path:
        return self.root

    @property
    def beat_s(self) -> float:
        return 1.0

    def at(self, prefix: str) -> "LocalStore":
        return LocalStore(self._path(prefix))

    def read(self, key: str) -> bytes:
        with self._open(key) as file:
            return file.read()

    def write(self, key: str, content: bytes) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, lambda partial: partial.write_bytes(content), durable=True)

    def keys(self, prefix: str = "") -> list[str]:
        top = self._path(prefix) if prefix else self.root
        found = []
        for folder, folders, files in os.walk(top, onerror=_raise_unless_absent):
            folders[:] = [name for name in folders if not _is_partial(name)]
            found += [Path(folder, name) for name in files if not _is_partial(name)]
        # Others may have put there what is no key.
        return sorted(filter(is_plain, (path.relative_to(self.root).as_posix() for path in found)))

    def entries(self, prefix: str = "") -> list[Entry]:
        found = []
        for key in self.keys(prefix):
            # Others may take it away meanwhile.
            with suppress(*_ABSENT):
                state = self._path(key).stat()
                found.append(Entry(key=key, bytes=state.st_size, changed=state.st_mtime))
        return found

    def put(self, folder: Path, key: str) -> None:
        read_manifest(folder)
        if not _is_same(folder, self._path(key)):
            _copy(LocalStore(folder), self._path(key))

    def get(self, key: str, folder: Path) -> None:
        source = LocalStore(self._path(key))
        if _is_same(source.root, folder):
            source.read(MANIFEST)
            verify_directory(folder)
        else:
            _copy(source, folder)

    def remove(self, prefix: str) -> None:
        path = self._path(prefix)
        if path.is_dir():
            drop(path)
        else:
            with suppress(*_ABSENT):
                path.unlink()

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def _open(self, key: str) -> BufferedReader:
        path = self._path(key)
        try:
            return open_regular(path)
        except _ABSENT:
            raise MissingKeyError(f"{path} does not exist") from None
        except OSError:
            if path.is_dir():
                raise MissingKeyError(f"{path} is a folder") from None
            raise

    def _copy_file(self, key: str, path: Path) -> None:
        with self._open(key) as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def _copy(source: LocalStore, destination: Path) -> None:
    copy_folder(source.address, lambda: source.read(MANIFEST), source._copy_file, destination)


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_partial(name: str) -> bool:
    """Whether a file or folder is one that is being written, or was left by a writer that was killed."""
    return name.startswith(".") and name.endswith(".partial")


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, _ABSENT):
        raise error
