"""Where masks go and what lies beside them, and what they may not replace there."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..models.regular_file import read_regular
from ..platform.base.keys import S3
from ..platform.storage.opening import open_store
from ..platform.storage.s3_client import AT_ONCE
from ..trainers.data.images import is_there
from ..trainers.errors import UserError
from ..trainers.marked import origin_of
from .outputs import refuse_other_than_file
from .scenes import same_place

_SHOWN = 3
"""Files that are named of those that may not be replaced."""


def places_of(names: Mapping[str, Sequence[str]], to: str) -> dict[str, str]:
    """The places of files by their names, of the names that each image's have.

    Raises UserError unless all can be written: none in the place of an image or of another of these, and no file where
    a folder is needed.
    """
    places = {name: f"{to.rstrip('/')}/{name}" for some in names.values() for name in some}
    _refuse_replacing_each_other(names, places)
    if not to.startswith(S3):
        _refuse_files_for_folders({places[name]: image for image, some in names.items() for name in some})
    return places


def origins_there(places: Mapping[str, str], to: str, *, overwrite: bool) -> dict[str, str]:
    """Of what those files were made that are there, by name.

    Raises UserError for files that `predict` did not write, or not as they are now, unless they may be overwritten.
    """
    origins: dict[str, str] = {}
    theirs: list[str] = []
    for name, content in _there(places, to):
        if origin := origin_of(content):
            origins[name] = origin
        else:
            theirs.append(name)
    if theirs and not overwrite:
        named = ", ".join(theirs[:_SHOWN]) + (", …" if len(theirs) > _SHOWN else "")
        files, were, them = ("file", "was", "it") if len(theirs) == 1 else ("files", "were", "them")
        raise UserError(
            f"{len(theirs)} {files} in {to} {were} changed since predict wrote {them}, or not written by this version "
            f"of it: {named}; name another place with --to, or replace {them} with --overwrite"
        )
    return origins


def _there(places: Mapping[str, str], to: str) -> Iterator[tuple[str, bytes]]:
    """The files that are there, by name. Raises UserError for what is no regular file."""
    if to.startswith(S3):
        store = open_store(to, AT_ONCE)
        for name in sorted(places.keys() & set(store.keys())):
            yield name, store.read(name)
    else:
        for name, place in places.items():
            # A name that is too long for a file is none of one.
            if is_there(Path(place)):
                refuse_other_than_file(Path(place))
                yield name, read_regular(Path(place))


def _refuse_replacing_each_other(names: Mapping[str, Sequence[str]], places: Mapping[str, str]) -> None:
    images = {same_place(image): image for image in names}
    owner: dict[str, str] = {}
    for image, some in names.items():
        for name in some:
            if replaced := images.get(same_place(places[name])):
                raise UserError(f"{places[name]} would replace image {replaced}: name another folder with --to")
            if name in owner:
                raise UserError(
                    f"{owner[name]} and {image} would have the same mask {places[name]}: rename one of them, or name "
                    f"both by the folder or pattern that they have in common, below which folders are kept"
                )
            owner[name] = image


def _refuse_files_for_folders(owners: Mapping[str, str]) -> None:
    owner = {Path(place): image for place, image in owners.items()}
    for path, image in owner.items():
        for folder in path.parents:
            if folder in owner:
                raise UserError(
                    f"{folder} would be the mask of {owner[folder]} and the folder of that of {image}: rename one"
                )
            if folder.exists() and not folder.is_dir():
                raise UserError(f"{folder} is no folder, as mask {path} needs: remove it, or name another with --to")
