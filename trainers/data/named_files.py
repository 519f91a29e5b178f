"""Files and folders of a dataset by the names that lists give them."""

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import UserError
from .images import is_file, is_there


def other_tree(place: Path, missing: str, tree: str) -> UserError:
    return UserError(f"{place} has no folder {missing}: put {tree} there, or set dataset.root to where they lie")


def named(text: str, *folders: Path) -> Path | None:
    """The file that a list names, relative to one of several folders, with a leading slash or without, or absolute."""
    inside = text.lstrip("/")
    return first_file([*(folder / inside for folder in folders), *([Path(text)] if text != inside else [])])


def missing(root: Path, named: str | None) -> Path | None:
    """Where a mask should lie that is named but does not exist."""
    return root / named.lstrip("/") if named else None


def file_of(folders: Iterable[Path], id: str, suffixes: Iterable[str]) -> Path | None:
    """The file of an id, whose suffix may have capitals, and whose name may be written as macOS does."""
    names = dict.fromkeys((id, *(unicodedata.normalize(form, id) for form in ("NFC", "NFD"))))
    cased = [*suffixes, *(suffix.upper() for suffix in suffixes)]
    return first_file(folder / f"{name}{suffix}" for folder in folders for name in names for suffix in cased)


def first_file(paths: Iterable[Path]) -> Path | None:
    """The first that is a file; else the first that is there at all, of which reading it tells what it is."""
    paths = list(paths)
    return next((path for kind in (is_file, is_there) for path in paths if kind(path)), None)


def first_folder(paths: Iterator[Path] | tuple[Path, ...]) -> Path | None:
    return next((path for path in paths if path.is_dir()), None)
