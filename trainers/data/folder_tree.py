"""A user's own folder: its images, the mask that belongs to each, and what is neither."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from .lists import has_image_suffix
from .masks import keeps_ids

ENDINGS = ("_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_gt")
"""What the names of masks add to those of their images."""


@dataclass(frozen=True, kw_only=True)
class FolderTree:
    """What lies in images/ and masks/. An image's id is its path without suffix."""

    images: dict[str, Path]
    """By their ids, in the order of their paths."""
    twins: tuple[tuple[Path, Path], ...]
    """Images of one id, also where the same letters are written in two ways (NFC and NFD)."""
    masks: dict[str, Path]
    """By the ids of their images."""
    strays: tuple[Path, ...]
    """Masks of no image."""
    seconds: tuple[tuple[Path, Path], ...]
    """Masks of images that have one, which comes first."""
    left_out: dict[Path, str]
    """What is not read in images/ and masks/, in words with counts."""


def read_folder(root: Path) -> FolderTree:
    """The tree below a folder with images/ and masks/. Links to folders are followed, each folder is read once."""
    folders = root / "images", root / "masks"
    (images, others), (masks, other_masks) = (_split(_walk(folder)) for folder in folders)
    image_of: dict[str, Path] = {}
    id_of: dict[str, str] = {}
    twins = []
    for path in images:
        id = _id(path, folders[0])
        if (first := id_of.setdefault(same_name(id), id)) in image_of:
            twins.append((image_of[first], path))
        else:
            image_of[id] = path
    names = {path: _id(path, folders[1]) for path in masks}
    mask_of: dict[str, Path] = {}
    strays, seconds = [], []
    for path in sorted(masks, key=lambda path: (same_name(names[path]) not in id_of, not keeps_ids(path.name))):
        id = next((id_of[key] for key in map(same_name, _owners(names[path])) if key in id_of), None)
        if id is None:
            strays.append(path)
        elif (first := mask_of.setdefault(id, path)) != path:
            seconds.append((first, path))
    told = zip(folders, (_left_out(others), _left_out(other_masks)), strict=True)
    return FolderTree(
        images=image_of,
        twins=tuple(twins),
        masks=mask_of,
        strays=tuple(strays),
        seconds=tuple(seconds),
        left_out={folder: counts for folder, counts in told if counts},
    )


def twin_problem(one: Path, other: Path, id: str) -> str:
    """That two images have one id."""
    return f"{one} and {other} both have the id {id}: rename one and its mask"


def same_name(name: str) -> str:
    """What a name has in common with one that macOS writes with its accents apart."""
    return unicodedata.normalize("NFC", name)


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _owners(name: str) -> Iterator[str]:
    """The ids of the images that a mask, by its path without suffix, may belong to; the likeliest first."""
    yield name
    if has_image_suffix(name):
        name = name.rpartition(".")[0]
        yield name
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            bare = name[: -len(ending)]
            yield bare
            if has_image_suffix(bare):
                yield bare.rpartition(".")[0]


def _walk(folder: Path) -> Iterator[Path]:
    """The files of a folder, and of those in it that are not hidden.

    What links lead to comes last, and no folder is read twice, as links may be circles: it comes itself instead.
    """
    seen: set[tuple[int, int]] = set()
    waiting, linked = [folder], []
    while waiting or linked:
        place = waiting.pop() if waiting else linked.pop(0)
        found = place.stat()
        if (found.st_dev, found.st_ino) in seen:
            yield place
            continue
        seen.add((found.st_dev, found.st_ino))
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = place / entry.name
                if entry.name.startswith(".") or has_image_suffix(entry.name) or not _is_folder(entry):
                    yield path
                else:
                    (linked if entry.is_symlink() else waiting).append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A circle of links.
        return False


def _split(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The images among files, in order, and what else there is."""
    images, others = [], []
    for path in paths:
        is_image = has_image_suffix(path.name) and not path.name.startswith(".")
        (images if is_image else others).append(path)
    return sorted(images), others


def _left_out(others: Sequence[Path]) -> str:
    again = [path for path in others if path.is_dir() and not path.name.startswith(".")]
    files = counted([path for path in others if path not in again])
    return ", ".join([*([files] if files else []), *(f"{path}, a second link to a folder" for path in again)])


def counted(others: Sequence[PurePath]) -> str:
    """How many files there are of each kind, in words."""
    hidden = sum(path.name.startswith(".") for path in others)
    kinds = Counter(path.suffix.lower() or path.name for path in others if not path.name.startswith("."))
    return ", ".join(
        [*(f"{count} {kind}" for kind, count in sorted(kinds.items())), *([f"{hidden} hidden"] if hidden else [])]
    )
