"""Predictions of a model on images, as palette PNGs of class ids."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..models.bundle import Model, load
from ..platform.spec.protocol import protocol_on
from ..trainers.data.images import ImageError
from ..trainers.errors import UserError, listed
from ..trainers.prediction import Predictor, decode_scene, encode_mask
from ..trainers.progress import progress
from .masks import mask_places, mask_writer
from .scenes import find_scenes

_SHOWN = 20
"""Images that are named of those without a mask."""


def predict(model_path: Path, images: Sequence[str], to: str, *, averaged: bool = False) -> list[str]:
    """Write a mask for each image to a folder or below an `s3://` prefix, named as the image is; return their places.

    Images are read as those were by which the model was judged; `averaged` as for its second figure.

    Raises UserError before the first mask is written for what is no model, for masks that would replace anything but
    masks of before, and for files of this machine that are no images by their headers. An image that only then shows
    that it cannot be read goes without a mask, and UserError is raised at the end, of all of them.
    """
    scenes = find_scenes(images)
    masks = mask_places(scenes, to)
    if problems := list(filter(None, (scene.problem() for scene in scenes))):
        raise UserError(listed(problems, f"{len(scenes)} images", _SHOWN))
    predictor = predictor_of(model_path, averaged=averaged)
    write = mask_writer(to)
    written: list[str] = []
    for scene in progress(scenes, len(scenes), "images predicted"):
        try:
            image = decode_scene(scene.read(), scene.place)
        except ImageError as error:
            problems.append(str(error))
            continue
        mask = encode_mask(probabilities_of(predictor, image, model_path), predictor.model.card.palette)
        write(scene.mask, mask)
        written.append(masks[scene.place])
    if problems:
        told = listed(problems, f"{len(scenes)} images", _SHOWN)
        raise UserError(f"{told}\n{len(written)} of {len(scenes)} images have masks now in {to}")
    return written


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
