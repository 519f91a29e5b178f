"""The images that somebody means by paths, folders, patterns and addresses in S3, and what their masks are called."""

import glob
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

from ..platform.base.keys import S3
from ..platform.base.s3_address import s3_address
from ..platform.storage.opening import open_store
from ..platform.storage.s3_client import AT_ONCE
from ..platform.storage.store import MissingKeyError
from ..trainers.data.folder_tree import counted
from ..trainers.data.images import ImageError, read_file
from ..trainers.data.lists import has_image_suffix
from ..trainers.errors import UserError
from ..trainers.marked import is_ours
from .encoding import Kind

log = logging.getLogger(__name__)

_WILD = "*?["
"""What makes a pattern of a path."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image that somebody means."""

    place: str
    """A path, or an address in S3."""
    stem: str
    """Its path without suffix below the folder, prefix or fixed part of the pattern by which it was found."""
    read: Callable[[], bytes]
    """Its content. Raises ImageError."""


def find_scenes(sources: Sequence[str], *, below: str | None = None) -> list[Scene]:
    """Images, those in folders, those that match patterns as `'photos/**/*.jpg'`, and those below `s3://` prefixes.

    What is hidden is left out, and so is what `predict` wrote `below` a place, or beside the image that it is of. A
    file of the very name of a pattern is that file. What else a source holds is counted in the log. Raises UserError
    for a source without images.
    """
    scenes: dict[str, Scene] = {}
    for source in sources:
        found, others = _in_s3(source) if source.startswith(S3) else _on_disk(source)
        found = _without_ours(found, below)
        if not found:
            left_out = f" (not read: {counted(others)})" if others else ""
            raise UserError(f"no images in {source}{left_out}: name images, a folder of them, a pattern or a prefix")
        if others:
            log.info("not read in %s: %s", source, counted(others))
        scenes |= {scene.place: scene for scene in found if scene.place not in scenes}
    return list(scenes.values())


def _without_ours(found: Sequence[Scene], below: str | None) -> list[Scene]:
    """Those that `predict` did not write. For it PNGs are read that lie where it may have written."""
    photographs = {scene.stem for scene in found if not scene.place.endswith(Kind.MASK)}

    def may_be_ours(scene: Scene) -> bool:
        name = f"{scene.stem}{Kind.MASK}"
        beside = any(name.removesuffix(kind) in photographs for kind in Kind)
        return scene.place.endswith(Kind.MASK) and (beside or (below is not None and _is_below(scene.place, below)))

    return [scene for scene in found if not (may_be_ours(scene) and _is_ours(scene))]


def _is_below(place: str, folder: str) -> bool:
    return same_place(place).startswith(f"{same_place(folder).rstrip('/')}/")


def _is_ours(scene: Scene) -> bool:
    try:
        return is_ours(scene.read())
    except ImageError:
        return False


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files among paths, and the images in the folders among them. Raises UserError if there are none."""
    return [Path(scene.place) for scene in find_scenes([str(path) for path in paths])]


def _on_disk(source: str) -> tuple[list[Scene], list[Path]]:
    """The images of a source on this machine, and its other files."""
    files, others, folder = _files(source)
    scenes = [
        Scene(place=str(file), stem=file.relative_to(folder).with_suffix("").as_posix(), read=partial(read_file, file))
        for file in files
    ]
    return scenes, others


def _files(source: str) -> tuple[list[Path], list[Path], Path]:
    """The images of a source on this machine, its other files, and the folder below which masks keep their paths."""
    path = Path(source)
    if path.is_dir():
        # Links to folders are not followed, for they may lead in a circle.
        files = sorted(file for file in path.rglob("*") if not _is_hidden(file.relative_to(path)))
        return *_split(files), path
    if path.is_file():
        return [path], [], path.parent
    if not set(source).intersection(_WILD):
        raise UserError(f"image {source} does not exist")
    # As a shell would: Path.glob also finds what is hidden, as macOS puts it beside images.
    matches = (Path(match) for match in sorted(glob.glob(source, recursive=True)))  # noqa: PTH207
    return *_split(matches), Path(*_fixed(path.parts))


def _split(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The images among paths, and the other files."""
    images, others = [], []
    for path in paths:
        if not path.is_dir():
            (images if has_image_suffix(path.name) else others).append(path)
    return images, others


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _in_s3(source: str) -> tuple[list[Scene], list[PurePosixPath]]:
    """The image of a key, those below a prefix, or those that match a pattern, and what else there is.

    Raises UserError for no address.
    """
    try:
        address = s3_address(source)
    except ValueError as error:
        raise UserError(str(error)) from None
    parts = PurePosixPath(address.prefix).parts
    fixed = _fixed(parts)
    pattern = parts[len(fixed) :]
    if not pattern and parts and has_image_suffix(parts[-1]):
        fixed, pattern = parts[:-1], parts[-1:]
    place = "/".join((f"{S3}{address.bucket}", *fixed))
    # Whoever types a command learns at once that storage is away; once masks are computed, they wait for it.
    keys, store = open_store(place, AT_ONCE).keys(), open_store(place)

    def read(key: str) -> bytes:
        try:
            return store.read(key)
        except MissingKeyError as error:
            raise ImageError(str(error)) from None

    scenes, others = [], []
    for key in keys:
        path = PurePosixPath(key)
        # What some programs call a folder is an empty object.
        if key in ("", f"{path}/") or not _matches(key.split("/"), pattern or ("**",)):
            continue
        if has_image_suffix(key):
            scenes.append(Scene(place=f"{place}/{key}", stem=str(path.with_suffix("")), read=partial(read, key)))
        else:
            others.append(path)
    return scenes, others


def _fixed(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts of a path before the first that is a pattern."""
    first = next((place for place, part in enumerate(parts) if set(part).intersection(_WILD)), len(parts))
    return tuple(parts[:first])


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a key's parts match a pattern's, as `glob` matches paths: `**` is any number of them, none hidden."""
    if not pattern:
        return not parts
    hidden = bool(parts) and parts[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and not hidden and _matches(parts[1:], pattern))
    return bool(parts) and not hidden and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def same_place(place: str) -> str:
    """What two names of one place have in common."""
    # Path.resolve raises for a loop of links.
    return place if place.startswith(S3) else os.path.realpath(place)
