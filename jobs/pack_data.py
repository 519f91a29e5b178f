"""A spec's dataset decoded once into a place that `dataset.pack` names, for trainings to read without decoding."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..models.manifest import MANIFEST, read_manifest
from ..models.resize import Resize
from ..platform.base.keys import S3
from ..platform.base.s3_address import S3Address, s3_address
from ..platform.spec.spec_file import load_spec
from ..platform.storage.opening import open_store
from ..platform.storage.s3_client import AT_ONCE
from ..platform.storage.store import Store
from ..trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from ..trainers.data.opening import open_dataset
from ..trainers.data.pack import is_shard
from ..trainers.data.pack_card import CARD, PackCard, other_settings, read_card, verify_pack
from ..trainers.data.packing import gigabytes, write_pack
from ..trainers.data.scaled import resized, shown_resize
from ..trainers.errors import UserError

_REMEDY = "name another place, or remove it"


def pack_data(path: Path, overrides: Sequence[str], place: str, *, at_resize: bool = False) -> list[str]:
    """Pack the dataset of a spec file, its training images at their own size or at `trainer.resize`.

    Returns what there is to say. Raises UserError as `pack` does.
    """
    # The spec may name the pack that is to be written, and start weights that lie where it trains alone.
    spec = load_spec(path, [*overrides, "dataset.pack=null", "model.weights=null"])
    if at_resize and spec.trainer.resize is None:
        raise UserError(
            "--resized packs training images at trainer.resize, which the spec does not set: set it, as to "
            "{longer: 640}"
        )
    settings, resize = spec.dataset, spec.trainer.resize if at_resize else None
    if place.startswith(S3):
        told = pack_to_s3(settings, s3_address(place), resize)
    else:
        place = str(Path(place).resolve())
        told = pack(settings, Path(place), resize)
    only = f"training images are at trainer.resize {shown_resize(resize)}: the pack serves trainings of that alone"
    return [told, *([only] if resize else []), "read them by", f"  --set dataset.pack={shlex.quote(place)}"]


def pack(settings: DatasetSettings, folder: Path, resize: Resize | None) -> str:
    """Pack a dataset into a folder, unless it lies there already, and return what there is to say.

    Raises UserError for a folder that holds anything else, a pack of another dataset included.
    """
    card = _card_in(folder)
    dataset = _dataset_of(settings, resize, card, str(folder))
    if card and _is_whole(folder):
        return f"{_images(dataset)} images lie already in {folder}"
    return _told(dataset, write_pack(folder, dataset, settings), str(folder))


def pack_to_s3(settings: DatasetSettings, address: S3Address, resize: Resize | None) -> str:
    """As `pack`, to a place in S3, by way of a folder of this machine. Raises StoreError, too."""
    above, _, name = address.prefix.rpartition("/")
    if not name:
        raise UserError(f"{address} is a bucket: name a place in it, as {address}/packs/voc")
    with TemporaryDirectory(prefix="advseg-") as folder:
        card = _card_there(open_store(str(address), AT_ONCE), Path(folder))
        dataset = _dataset_of(settings, resize, card, str(address))
        if card:
            return f"{_images(dataset)} images lie already in {address}"
        card = write_pack(Path(folder) / name, dataset, settings)
        open_store(str(S3Address(address.bucket, above))).put(Path(folder) / name, name)
    return _told(dataset, card, str(address))


def _dataset_of(settings: DatasetSettings, resize: Resize | None, card: PackCard | None, place: str) -> Dataset:
    """The dataset that is to lie in a place, which may have a pack. Raises UserError if that is another's."""
    if card and (found := other_settings(settings, card)):
        raise UserError(f"{place} holds a pack of other settings ({found}): {_REMEDY}")
    if card and card.resize != resize:
        raise UserError(
            f"{place} holds a pack of training images at trainer.resize {shown_resize(card.resize)}, not at "
            f"{shown_resize(resize)}: {_REMEDY}"
        )
    dataset = open_dataset(settings)
    if card and card.digest != dataset.digest:
        raise UserError(
            f"{place} holds a pack of other images, masks or lists (its digest is {card.digest[:8]}, but that of "
            f"{settings.root} is {dataset.digest[:8]}): {_REMEDY}"
        )
    return resized(dataset, resize) if resize else dataset


def _card_in(folder: Path) -> PackCard | None:
    """The card of the pack in a folder, None if there is nothing. Raises UserError if there is something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / CARD).is_file():
        raise UserError(f"{folder} exists and is no pack: name a folder that does not exist")
    return read_card(folder)


def _card_there(store: Store, folder: Path) -> PackCard | None:
    """The card of the whole pack in a store, None if there is none or only what a writer that was killed has left.

    Raises UserError if there is something else.
    """
    keys = set(store.keys())
    if any(key not in (MANIFEST, CARD) and not is_shard(key) for key in keys):
        raise UserError(f"{store.address} holds something else than a pack: name another place")
    if MANIFEST not in keys:
        return None
    for name in keys & {MANIFEST, CARD}:
        (folder / name).write_bytes(store.read(name))
    try:
        card = read_card(folder)
    except DatasetError as error:
        raise UserError(str(error).replace(str(folder), store.address)) from None
    return card if keys >= read_manifest(folder).keys() else None


def _is_whole(folder: Path) -> bool:
    try:
        verify_pack(folder)
    except DatasetError:
        return False
    return True


def _images(dataset: Dataset) -> int:
    return sum(map(len, dataset.parts.values()))


def _told(dataset: Dataset, card: PackCard, place: str) -> str:
    return f"{_images(dataset)} images, {gigabytes(card.bytes)}, packed in {place}"
