"""Where a run's checkpoints last, if that is not the folder in which it writes them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from .kept import Kept


class Keeper(Protocol):
    """Keeps what a run saves where it outlives the machine."""

    def place(self, root: Path) -> str:
        """Where the checkpoints last that are in a folder of the run, in words."""
        ...

    def names(self) -> Iterable[str]:
        """Of the checkpoints that it keeps."""
        ...

    def bring(self, path: Path) -> None:
        """Put the checkpoint of that name there, verified. Raises BrokenDirectoryError for a damaged one."""
        ...

    def keep(self, path: Path, kept: Kept) -> None:
        """Keep a checkpoint that was just saved; those go that do not stay. Raises OSError if it cannot be kept."""
        ...


class InPlace:
    """For a run whose folder is where things last."""

    def place(self, root: Path) -> str:
        """That folder."""
        return str(root)

    def names(self) -> Iterable[str]:
        """None but those in the folder itself."""
        return ()

    def bring(self, path: Path) -> None:
        """Nothing to bring."""

    def keep(self, path: Path, kept: Kept) -> None:
        """It is there already, and in that folder alone."""
