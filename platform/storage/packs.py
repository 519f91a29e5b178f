"""Datasets wherever their packs lie. Of a pack in S3 this machine has a copy, whose shards come when they are read."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal, TypeGuard

from ...models.manifest import MANIFEST, checksum_of, read_manifest
from ...trainers.data import opening
from ...trainers.data.dataset import Dataset, DatasetError, DatasetSettings, Inspection
from ...trainers.data.pack_card import CARD, REMEDY, read_card
from ...trainers.progress import tick
from ..base.keys import S3
from .cache import Cache, machine_cache
from .once import make_once
from .opening import open_store
from .s3_client import AT_ONCE
from .store import MissingKeyError, Store


def open_dataset(
    settings: DatasetSettings, cache: Cache | None = None, only: Literal["validation"] | None = None
) -> Dataset:
    """As that of `trainers`, also of a pack at `s3://bucket/prefix`, of which the card alone is fetched for it.

    Its shards are fetched into a cache, by default this machine's, and verified, when something of them is read.
    Raises StoreError and BrokenEnvironmentError, too, as reading such a sample does, and that also DatasetError.
    """
    if not _is_elsewhere(settings.pack):
        return opening.open_dataset(settings, only)
    from ...trainers.data.pack import open_pack

    copy = _copy_of(settings.pack, cache or machine_cache())
    with copy.named():
        return open_pack(copy.folder, settings, copy.bring)


def inspect_dataset(settings: DatasetSettings, cache: Cache | None = None) -> Inspection:
    """As that of `trainers`, also of a pack at `s3://bucket/prefix`, of which all is fetched."""
    if not _is_elsewhere(settings.pack):
        return opening.inspect_dataset(settings)
    from ...trainers.data.pack import inspect_pack

    try:
        copy = _copy_of(settings.pack, cache or machine_cache())
        for name in copy.sums:
            copy.bring(name)
    except DatasetError as error:
        return Inspection(dataset=None, problems=(str(error),), classes=(), parts={}, notes=())
    found = inspect_pack(copy.folder, settings)
    return replace(
        found, problems=tuple(map(copy.name_in, found.problems)), notes=tuple(map(copy.name_in, found.notes))
    )


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """What this machine has of a pack."""

    store: Store
    folder: Path
    sums: Mapping[str, str]
    """The SHA-256 of each file."""

    def bring(self, name: str) -> None:
        """See to it that a file is in the folder. Raises DatasetError, StoreError and OSError."""
        make_once(self.folder / name, lambda file: self._fetch(name, file))
        tick()

    def _fetch(self, name: str, file: BinaryIO) -> None:
        try:
            content = self.store.read(name)
        except MissingKeyError as error:
            raise DatasetError(f"{error}: {REMEDY}") from None
        if hashlib.sha256(content).hexdigest() != self.sums[name]:
            raise DatasetError(f"{self.store.address}/{name} differs from its checksum in {MANIFEST}: {REMEDY}")
        file.write(content)

    def name_in(self, text: str) -> str:
        """A text about the folder as one about the pack."""
        return text.replace(str(self.folder), self.store.address)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Raises DatasetErrors about the folder as such about the pack."""
        try:
            yield
        except DatasetError as error:
            raise DatasetError(self.name_in(str(error))) from None


def _is_elsewhere(pack: str | None) -> TypeGuard[str]:
    return pack is not None and pack.startswith(S3)


def _copy_of(address: str, cache: Cache) -> _Copy:
    """The copy of a pack, with its card. Raises DatasetError for what is none."""
    store = open_store(address, AT_ONCE)
    with TemporaryDirectory(prefix="advseg-") as folder:
        begun = _Copy(store=store, folder=Path(folder), sums={})
        try:
            contents = {name: store.read(name) for name in (CARD, MANIFEST)}
        except MissingKeyError:
            raise DatasetError(
                f"pack {store.address} does not exist, or is not whole: write it by "
                f"`advseg data pack SPEC {store.address}`, or remove dataset.pack to read the images themselves"
            ) from None
        for name, content in contents.items():
            (begun.folder / name).write_bytes(content)
        with begun.named():
            card = read_card(begun.folder)
        sums, checksum = read_manifest(begun.folder), checksum_of(begun.folder)
    assert checksum
    kept = cache.keep("packs", checksum, card.bytes)
    for name, content in contents.items():
        make_once(kept / name, lambda file, content=content: file.write(content))
    # From here on a training runs, which waits.
    return _Copy(store=open_store(address), folder=kept, sums=sums)
