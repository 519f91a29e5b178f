"""Where masks go, and what they may not replace there."""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path

from ..models.files import open_regular
from ..platform.base.keys import S3
from ..platform.storage.opening import open_store
from ..platform.storage.s3_client import AT_ONCE
from ..trainers.errors import UserError
from ..trainers.prediction import is_predicted
from ..trainers.whole_file import replace_whole
from .outputs import refuse_other_than_file
from .scenes import Scene, same_place


def mask_places(scenes: list[Scene], to: str) -> dict[str, str]:
    """The place of each image's mask, by the image's. Raises UserError unless all can be written and cost nothing.

    A mask replaces one that `predict` wrote, and nothing else: no image, no mask of another hand, no other mask of
    these, and no file where a folder is needed.
    """
    masks = {scene.place: f"{to.rstrip('/')}/{scene.mask}" for scene in scenes}
    _refuse_replacing_each_other(masks)
    if to.startswith(S3):
        _refuse_replacing_in_s3([scene.mask for scene in scenes], to)
    else:
        _refuse_replacing_on_disk(masks)
    return masks


def mask_writer(to: str) -> Callable[[str, bytes], None]:
    """What puts a mask in its place, at once."""
    if to.startswith(S3):
        return open_store(to).write

    def write(name: str, mask: bytes) -> None:
        path = Path(to, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, partial(Path.write_bytes, data=mask))

    return write


def _refuse_replacing_each_other(masks: Mapping[str, str]) -> None:
    images = {same_place(image): image for image in masks}
    owner: dict[str, str] = {}
    for image, mask in masks.items():
        if replaced := images.get(same_place(mask)):
            raise UserError(f"mask {mask} would replace image {replaced}: name another folder with --to")
        if mask in owner:
            raise UserError(
                f"{owner[mask]} and {image} would have the same mask {mask}: rename one of them, or name both by one "
                f"pattern, below whose fixed part folders are kept"
            )
        owner[mask] = image


def _refuse_replacing_on_disk(masks: Mapping[str, str]) -> None:
    owner = {Path(mask): image for image, mask in masks.items()}
    for path, image in owner.items():
        for folder in path.parents:
            if folder in owner:
                raise UserError(
                    f"{folder} would be the mask of {owner[folder]} and the folder of that of {image}: rename one"
                )
            if folder.exists() and not folder.is_dir():
                raise UserError(f"{folder} is no folder, as mask {path} needs: remove it, or name another with --to")
        refuse_other_than_file(path)
        if path.exists():
            with open_regular(path) as file:
                _refuse_other(path, is_predicted(file))


def _refuse_replacing_in_s3(keys: list[str], to: str) -> None:
    store = open_store(to, AT_ONCE)
    for key in sorted(set(keys).intersection(store.keys())):
        _refuse_other(f"{to.rstrip('/')}/{key}", is_predicted(BytesIO(store.read(key))))


def _refuse_other(place: Path | str, is_ours: bool) -> None:
    if not is_ours:
        raise UserError(
            f"{place} is there and no mask that this version of predict wrote: remove it, or name another place "
            f"with --to"
        )
