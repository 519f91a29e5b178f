"""What a pack says of itself in `pack.json`, and whether that is what a dataset's settings ask for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...models.card import resize_of
from ...models.manifest import BrokenDirectoryError, verify_directory
from ...models.regular_file import read_regular
from ...models.resize import Resize
from ..differences import differences
from ..errors import brief
from .dataset import DatasetError, DatasetSettings
from .images import Colour, is_file
from .lists import is_list_file

FORMAT_VERSION = 2
CARD = "pack.json"
PARTS = ("labelled", "unlabelled", "validation", "test")
REMEDY = "remove it and write it again by `advseg data pack`, or remove dataset.pack to read the images themselves"


@dataclass(frozen=True, kw_only=True)
class ShardCard:
    """What it says of a file of samples."""

    images: int
    bytes: int
    """The file's size."""


@dataclass(frozen=True, kw_only=True)
class PackCard:
    """What pack.json says."""

    digest: str
    """Of the dataset that was packed."""
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int
    settings: dict[str, Any]
    """`packed_settings` of the dataset."""
    shards: dict[str, tuple[ShardCard, ...]]
    """Of each part."""
    notes: tuple[str, ...] = ()
    """Of the dataset; older packs have none."""
    resize: Resize | None = None
    """As `resized` of the dataset."""
    format_version: int = FORMAT_VERSION

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(shard.bytes for shards in self.shards.values() for shard in shards)


def verify_pack(folder: Path) -> None:
    """Raise DatasetError unless every byte of a pack is as it was written."""
    try:
        verify_directory(folder)
    except BrokenDirectoryError as error:
        raise DatasetError(f"{error}: {REMEDY}") from None


def read_card(folder: Path) -> PackCard:
    """What a pack says of itself. Raises DatasetError if the folder is no pack, or one of another format version."""
    if not folder.is_dir():
        raise DatasetError(
            f"pack {folder} does not exist: write it by `advseg data pack`, or remove dataset.pack to read the "
            f"images themselves"
        )
    if not is_file(folder / CARD):
        raise DatasetError(f"{folder} is no pack, as it has no {CARD}: name a folder that `advseg data pack` wrote")
    try:
        verify_directory(folder, only=[CARD])
    except BrokenDirectoryError as error:
        raise DatasetError(f"{error}: {REMEDY}") from None
    try:
        said = json.loads(read_regular(folder / CARD))
        if (version := said["format_version"]) == FORMAT_VERSION:
            return _card_of(said)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = brief(" ".join(str(error).split()))
        raise DatasetError(f"{folder / CARD} is no card of a pack ({reason}): {REMEDY}") from None
    raise DatasetError(
        f"pack {folder} has format version {brief(str(version))}, but this program reads {FORMAT_VERSION}: {REMEDY}"
    )


def _card_of(said: dict[str, Any]) -> PackCard:
    """Raises ValueError, LookupError or TypeError for what is no card."""
    *always, test = PARTS
    if {*said["shards"]} - {test} != {*always}:
        raise ValueError(f"it must list the shards of {', '.join(always)}")
    shards = {part: tuple(ShardCard(**each) for each in said["shards"].get(part, ())) for part in PARTS}
    if not all(type(count) is int for each in shards.values() for shard in each for count in vars(shard).values()):
        raise ValueError("it must count the images and bytes of each shard")
    palette = tuple((int(r), int(g), int(b)) for r, g, b in said["palette"])
    classes, notes = (tuple(map(str, texts)) for texts in (said["classes"], said.get("notes", ())))
    made: dict[str, Any] = {"classes": classes, "palette": palette, "shards": shards, "notes": notes}
    return PackCard(**said | made | dict[str, Any](resize=resize_of(said.get("resize"))))


def packed_settings(settings: DatasetSettings) -> dict[str, Any]:
    """The settings that determine what is in a pack, as JSON: all but the places.

    Of a list that is a file, its name with its folder's, and its SHA-256, null if it is not there.
    """
    values = asdict(settings)
    del values["root"], values["pack"]
    for key in (*PARTS, "order"):
        name = values[key]
        if name is not None and is_list_file(name):
            path = Path(name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if is_file(path) else None
            values[key] = {"file": "/".join(path.parts[-2:]), "sha256": digest}
    return json.loads(json.dumps(values))


def other_settings(settings: DatasetSettings, card: PackCard) -> str:
    """In which settings a dataset and a pack differ, with both values; empty if in none."""
    # Of what an older pack does not name there was no choice.
    defaults = {field.name: field.default for field in fields(settings)}
    pairs = {key: (ours, card.settings.get(key, defaults[key])) for key, ours in packed_settings(settings).items()}
    differing = {f"dataset.{key}": pair for key, pair in pairs.items() if not _same(*pair)}
    ours = {key: _shown(own) for key, (own, _) in differing.items()}
    theirs = {key: _shown(packed) for key, (_, packed) in differing.items()}
    return differences(ours, theirs, "the pack")


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        # A pack is also read where the list is not. Splits are published as 1_4/labeled.txt and 1_8/labeled.txt.
        key = "sha256" if ours["sha256"] else "file"
        return ours[key] == theirs[key]
    return ours == theirs


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return value["file"] + (f" (SHA-256 {value['sha256'][:8]})" if value["sha256"] else "")
    return json.dumps(value, ensure_ascii=False)
