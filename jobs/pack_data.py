"""A spec's dataset decoded once into a folder that `dataset.pack` names, for trainings to read without decoding."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..platform.spec.spec_file import load_spec
from ..trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from ..trainers.data.opening import open_dataset
from ..trainers.data.pack_card import CARD, PackCard, other_settings, read_card, verify_pack
from ..trainers.data.packing import gigabytes, write_pack
from ..trainers.errors import UserError

_REMEDY = "name another folder, or remove it"


def pack_data(path: Path, overrides: Sequence[str], folder: Path) -> list[str]:
    """Pack the dataset of a spec file into a folder; return what there is to say. Raises UserError as `pack` does."""
    # The spec may name the pack that is to be written.
    spec = load_spec(path, [*overrides, "dataset.pack=null"])
    folder = folder.resolve()
    return [pack(spec.dataset, folder), "read them by", f"  --set dataset.pack={shlex.quote(str(folder))}"]


def pack(settings: DatasetSettings, folder: Path) -> str:
    """Pack a dataset into a folder, unless it lies there already, and return what there is to say.

    Raises UserError for a folder that holds anything else, a pack of another dataset included.
    """
    card = _card_in(folder)
    if card and (found := other_settings(settings, card)):
        raise UserError(f"{folder} holds a pack of other settings ({found}): {_REMEDY}")
    dataset = open_dataset(settings)
    if card and card.digest != dataset.digest:
        raise UserError(
            f"{folder} holds a pack of other images, masks or lists (its digest is {card.digest[:8]}, but that of "
            f"{settings.root} is {dataset.digest[:8]}): {_REMEDY}"
        )
    if card and _is_whole(folder):
        return f"{_images(dataset)} images lie already in {folder}"
    card = write_pack(folder, dataset, settings)
    return f"{_images(dataset)} images, {gigabytes(card.bytes)}, packed in {folder}"


def _card_in(folder: Path) -> PackCard | None:
    """The card of the pack in a folder, None if there is nothing. Raises UserError if there is something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / CARD).is_file():
        raise UserError(f"{folder} exists and is no pack: name a folder that does not exist")
    return read_card(folder)


def _is_whole(folder: Path) -> bool:
    try:
        verify_pack(folder)
    except DatasetError:
        return False
    return True


def _images(dataset: Dataset) -> int:
    return sum(map(len, dataset.parts.values()))
