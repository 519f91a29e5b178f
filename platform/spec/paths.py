"""The paths in a spec's document: made absolute, and what is wrong with them.

What imports PyTorch is imported where it is used: a driver that looks for files need not wait for it.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..base.addresses import holds_secret, is_address, shown
from ..base.keys import S3
from ..base.s3_address import s3_address
from .errors import Problem

_FORMS = {
    "model.pretrained": "a folder, or a name on the Hugging Face Hub",
    "model.weights": "a file, a folder or s3://bucket/key",
    "dataset.pack": "a folder or s3://bucket/prefix",
    "storage": "a folder or s3://bucket/prefix",
}
"""What may stand where a path may, and addresses of S3."""


def anchor(document: dict[str, Any], folder: Path) -> None:
    """Make the paths of a document absolute; those that are already stay, and so do names of lists and addresses."""
    for section, name, _ in _places(document):
        path = section.get(name)
        if isinstance(path, str) and not is_address(path) and "\0" not in path:
            if path == "~" or path.startswith("~/"):
                path = str(Path.home()) + path[1:]
            # `Path.resolve` raises where links lead in a circle.
            section[name] = os.path.realpath(folder / path)


def unfit_paths(document: dict[str, Any]) -> Iterator[Problem]:
    """Addresses where there has to be a path, and secrets in those where there may be one; names that no file has."""
    for section, name, key in _places(document):
        path = section.get(name)
        if not isinstance(path, str):
            continue
        if "\0" in path:
            yield Problem(key, "holds a NUL character, as no path does: remove it")
        elif key == "dataset.pack" and path.startswith(S3):
            try:
                s3_address(path)
            except ValueError as error:
                yield Problem(key, str(error))
        elif key == "model.weights" and path.startswith(S3):
            bucket = path.removeprefix(S3).partition("/")[0]
            if ":" in bucket or "@" in bucket or holds_secret(path):
                remedy = "remove it, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                yield Problem(key, f"{shown(path)} holds a key or a signature, which a spec must not: {remedy}")
        elif is_address(path) and not (key == "storage" and path.startswith(S3)):
            rule = f"must be {_FORMS.get(key, 'a path')}"
            remedy = "name where it is mounted, or copy it and name the copy"
            yield Problem(key, f"{rule}, but is the address {shown(path)}: {remedy}")


def missing_files(document: dict[str, Any]) -> Iterator[Problem]:
    """What a spec names and this machine lacks."""
    dataset = section_of(document, "dataset")
    root, pack = dataset.get("root"), dataset.get("pack")
    if isinstance(pack, str):
        if not _is_there(pack, os.path.isdir):
            remedy = "write it by `advseg data pack`, or remove the key to read the images of dataset.root"
            yield Problem("dataset.pack", f"folder {pack} does not exist: {remedy}")
    elif isinstance(root, str) and not _is_there(root, os.path.isdir):
        from ...trainers.data.layouts import TREES

        tree = TREES.get(str(dataset.get("layout", "voc")), "the dataset")
        yield Problem("dataset.root", f"folder {root} does not exist: put {tree} there, or name where it lies")
    weights = section_of(document, "model").get("weights")
    if isinstance(weights, str) and not _is_there(weights, os.path.exists):
        yield Problem("model.weights", f"file {weights} does not exist: put the start weights there or name theirs")
    pretrained = section_of(document, "model").get("pretrained")
    if isinstance(pretrained, str) and pretrained.startswith("/") and not _is_there(pretrained, os.path.isdir):
        yield Problem("model.pretrained", f"folder {pretrained} does not exist: put the network there or name its own")


def section_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of a document; an empty one if there is none, or something else in its place."""
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _is_there(path: str, exists: Callable[[str], bool]) -> bool:
    """Whether a path exists; of what is none `unfit_paths` tells."""
    return is_address(path) or "\0" in path or exists(path)


def _places(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Where paths stand in a document: the section, the key in it, and the whole key."""
    from ...models.pretrained import is_folder
    from ...trainers.data.lists import is_list_file

    dataset = section_of(document, "dataset")
    lists = [
        name
        for name in ("labelled", "unlabelled", "validation", "test", "order")
        if is_list_file(str(dataset.get(name)))
    ]
    yield from ((dataset, name, f"dataset.{name}") for name in ("root", "pack", *lists))
    yield document, "storage", "storage"
    model = section_of(document, "model")
    yield model, "weights", "model.weights"
    if is_folder(str(model.get("pretrained"))):
        yield model, "pretrained", "model.pretrained"
