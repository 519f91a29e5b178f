"""Predictions of a model on images, as palette PNGs of class ids."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from ..models.bundle import Model, load
from ..platform.base.keys import S3
from ..platform.spec.protocol import protocol_on
from ..platform.storage.opening import open_store
from ..trainers.data.images import ImageError
from ..trainers.errors import UserError, listed
from ..trainers.prediction import Predictor, decode_scene, encode_mask
from ..trainers.whole_file import replace_whole
from .outputs import refuse_other_than_file
from .scenes import find_scenes, same_place

_SHOWN = 20
"""Images that are named of those without a mask."""


def predict(model_path: Path, images: Sequence[str], to: str, *, averaged: bool = False) -> list[str]:
    """Write a mask for each image to a folder or below an `s3://` prefix, named as the image is; return their places.

    Images are read as those were by which the model was judged; `averaged` as for its second figure.

    Raises UserError before the first mask is written for what is no model, for masks that would replace each other, an
    image, or what is no file, and for files of this machine that are no images by their headers. An image that only
    then shows that it cannot be read goes without a mask, and UserError is raised at the end, of all of them.
    """
    scenes = find_scenes(images)
    masks = {scene.place: f"{to.rstrip('/')}/{scene.stem}.png" for scene in scenes}
    _refuse_replacing(masks)
    if problems := list(filter(None, (scene.problem() for scene in scenes))):
        raise UserError(listed(problems, f"{len(scenes)} images", _SHOWN))
    predictor = predictor_of(model_path, averaged=averaged)
    write = _writer(to)
    written: list[str] = []
    for scene in scenes:
        try:
            image = decode_scene(scene.read(), scene.place)
        except ImageError as error:
            problems.append(str(error))
            continue
        mask = encode_mask(probabilities_of(predictor, image, model_path), predictor.model.card.palette)
        write(f"{scene.stem}.png", mask)
        written.append(masks[scene.place])
    if problems:
        raise UserError(listed(problems, f"{len(scenes)} images, of which {len(written)} have masks now", _SHOWN))
    return written


def _refuse_replacing(masks: Mapping[str, str]) -> None:
    images = {same_place(image): image for image in masks}
    owner: dict[str, str] = {}
    for image, mask in masks.items():
        if replaced := images.get(same_place(mask)):
            raise UserError(f"mask {mask} would replace image {replaced}: name another folder with --to")
        if not mask.startswith(S3):
            refuse_other_than_file(Path(mask))
        if mask in owner:
            raise UserError(
                f"{owner[mask]} and {image} would have the same mask {mask}: rename one of them, or name both by one "
                f"pattern, below whose fixed part folders are kept"
            )
        owner[mask] = image


def _writer(to: str) -> Callable[[str, bytes], None]:
    """What puts a mask in its place, at once."""
    if to.startswith(S3):
        return open_store(to).write

    def write(name: str, mask: bytes) -> None:
        path = Path(to, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, partial(Path.write_bytes, data=mask))

    return write


def predictor_of(model_path: Path, *, averaged: bool = False) -> Predictor:
    """The model in a directory, which reads images as when it was judged. Raises UserError for what is no model.

    It does so, too, if it is to be `averaged` and was not judged so.
    """
    model = load_model(model_path)
    protocol = protocol_on(model.card)
    if averaged and not protocol.evaluation.averages:
        raise UserError(
            f"model {model_path} was judged by no second figure to average as: its trainer.evaluation has neither "
            f"scales nor flip; leave out --averaged"
        )
    return Predictor(model, protocol.evaluation, protocol.speed, averaged=averaged)


def probabilities_of(predictor: Predictor, image: np.ndarray, path: Path) -> Tensor:
    """Class probabilities [K, H, W] of an image by the model in a directory. Raises UserError if they are NaN."""
    try:
        return predictor.probabilities(image)
    except ValueError as error:
        raise UserError(f"model {path} is of no use ({error}): pull or train the model again") from None


def load_model(path: Path) -> Model:
    """The model in a directory. Raises UserError for what is no model."""
    if not path.exists():
        raise UserError(f"model {path} does not exist: name a folder, or a registered model, as in shapes@champion")
    try:
        return load(path)
    except ValueError as error:
        raise UserError(f"{error}: pull or train the model again") from None
