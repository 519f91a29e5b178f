"""A model that is brought here is there whole or not at all, and is the files that a model of ours has, no others."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ...models.bundle import model_files, read_card
from ...models.manifest import MANIFEST
from ...models.partial import partial_of
from ...trainers.errors import UserError


def place_model(destination: Path, fetch: Callable[[Iterable[str], Path], None]) -> None:
    """Fill a new folder with a model: `fetch` brings files by their names to a folder.

    Raises UserError for a destination that exists, BrokenDirectoryError for what is no model or differs from its
    manifest, and what `fetch` raises; the destination is then left as it was.
    """
    _refuse_taken(destination)
    with partial_of(destination) as partial:
        folder = partial / "model"
        folder.mkdir()
        fetch([MANIFEST], folder)
        fetch(model_files(folder), folder)
        read_card(folder)
        try:
            folder.rename(destination)
        except OSError:
            # Another process may have pulled to the same place at the same time.
            _refuse_taken(destination)
            raise


def _refuse_taken(destination: Path) -> None:
    """Raise UserError if something is there."""
    if os.path.lexists(destination):
        raise UserError(f"{destination} exists already: remove it or name another folder with --to")
