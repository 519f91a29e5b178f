"""Folders on their way from one place to another: whole when they arrive, or not there."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...models.manifest import MANIFEST, BrokenDirectoryError, read_manifest, replace_directory, verify_directory
from .store import MissingKeyError


def copy_folder(
    source: str, read: Callable[[], bytes], fetch: Callable[[str, Path], object], destination: Path
) -> None:
    """Make a directory of what `fetch` puts into files by name, as a manifest that `read` gives says.

    A source that is replaced meanwhile is fetched again. Raises BrokenDirectoryError, which names the source, if it is
    damaged; what `read` raises if it has no manifest; and MissingKeyError of `fetch` means that there is no such file.
    """
    broken = None
    while True:
        manifest = read()

        def write(new: Path, manifest: bytes = manifest) -> None:
            (new / MANIFEST).write_bytes(manifest)
            try:
                for name in read_manifest(new):
                    (new / name).parent.mkdir(parents=True, exist_ok=True)
                    # The manifest tells what is missing.
                    with suppress(MissingKeyError):
                        fetch(name, new / name)
                verify_directory(new)
            except BrokenDirectoryError as error:
                raise type(error)(str(error).replace(str(new), source)) from None

        try:
            replace_directory(destination, write)
        except BrokenDirectoryError:
            # Between two looks it may have been replaced by another, and that by the first again.
            if broken == manifest == read():
                raise
            broken = manifest
        else:
            return
