"""The seam to what lasts: files by key, in a folder or in S3-compatible storage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...models.files import is_plain, shown
from ...trainers.errors import BrokenEnvironmentError


class MissingKeyError(LookupError):
    """A store has no such key."""


class StoreError(BrokenEnvironmentError):
    """A store did not answer for a long time, or refuses; the message names this machine, the store and the cause."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is under a key."""

    key: str
    bytes: int
    changed: float
    """When it was written last, in seconds since 1970 on the clock of whoever keeps it."""


class Store(Protocol):
    """Files by key: names with slashes between them, relative to the store's address. None is another's folder.

    A key is there whole or absent. A folder is there once its manifest is, and the manifest comes last and goes first.
    One process at a time writes a key; any may read meanwhile, and finds nothing or what is whole. A store travels to
    other processes, which connect by themselves. Raises StoreError where storage is out of reach, OSError for a disk.
    """

    @property
    def address(self) -> str:
        """A folder's path, or `s3://bucket/prefix`."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder that it is, if it is one: what is written there is kept."""
        ...

    @property
    def beat_s(self) -> float:
        """Seconds between two writes of what changes all the time, and two looks at it."""
        ...

    def at(self, prefix: str) -> "Store":
        """The part of it that is below a prefix."""
        ...

    def read(self, key: str) -> bytes:
        """What is under a key. Raises MissingKeyError."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Put a content under a key, at once; it outlives a power cut."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """Every key below a prefix, as below a folder, in order: `a/1/b` is below `a/1`, and `a/10` is not."""
        ...

    def entries(self, prefix: str = "") -> list[Entry]:
        """What is under each of those keys."""
        ...

    def put(self, folder: Path, key: str) -> None:
        """Put all that a folder's manifest names below a key; what was there before is gone.

        Raises BrokenDirectoryError for a folder that is not whole.
        """
        ...

    def get(self, key: str, folder: Path) -> None:
        """Put the folder below a key in the place of one of this machine, once it is there whole.

        Raises MissingKeyError if it has no manifest, and BrokenDirectoryError if it differs from that.
        """
        ...

    def remove(self, prefix: str) -> None:
        """Take away a key and all that is below it, manifests first. What is absent stays so."""
        ...


def checked(key: str) -> str:
    """A key. Raises ValueError for a text that is none."""
    if not is_plain(key):
        raise ValueError(f"{shown(key)} is no key: it must be names with one slash between them, none . or ..")
    return key
