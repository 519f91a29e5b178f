"""What a model makes of images: palette PNGs of class ids, and what else is wanted beside them."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch

from ..models.bundle import load
from ..models.manifest import BrokenDirectoryError, checksum_of
from ..models.mistaken import MistakenError, is_model
from ..models.model import Model, Prediction
from ..models.protocol import Protocol
from ..trainers.data.images import ImageError
from ..trainers.described import device_name, network
from ..trainers.devices import usual_device
from ..trainers.errors import IncompleteError, UserError, listed
from ..trainers.marked import made_of
from ..trainers.prediction import decode_scene
from ..trainers.progress import progress
from .encoding import Kind, encoded
from .mask_writer import writer
from .masks import origins_there, places_of
from .own_device import device_named
from .scenes import Scene, find_scenes

log = logging.getLogger(__name__)

_SHOWN = 20
"""Images that are named of those without a mask."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What `predict` came to."""

    masks: list[str]
    """The places of the masks, one an image."""
    new: int
    """How many of them were not there before."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """An image that is to be predicted."""

    scene: Scene
    image: np.ndarray
    origin: str
    """Of what its mask will be made."""


def predict(
    model_path: Path,
    images: Sequence[str],
    to: str,
    *,
    beside: Sequence[Kind] = (),
    averaged: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    batch: int = 1,
) -> Written:
    """Write a mask for each image to a folder or below an `s3://` prefix, named as the image is, and what is wanted
    beside it.

    Images are read as those were by which the model was judged; `averaged` as for its second figure. Of neighbours of
    the same size `batch` go through the network together. What is there of the same model and image is not made again.

    Raises UserError before the first mask is written for what is no model, and for files that would replace anything
    but their like of before: with `overwrite` they may, but never an image of these. Images that cannot be read go
    without a mask, as do those in whose masks' places something came meanwhile or nothing can be written;
    IncompleteError is raised at the end, of all of them.
    """
    kinds = (Kind.MASK, *beside)
    _refuse_swapped(model_path, images)
    scenes = find_scenes(images, below=to)
    names = {scene.place: [f"{scene.stem}{kind}" for kind in kinds] for scene in scenes}
    places = places_of(names, to)
    there = origins_there(places, to, overwrite=overwrite)
    model = load_model(model_path, usual_device() if device is None else device_named(device))
    if averaged and not protocol_of(model).evaluation.averages:
        raise UserError(
            f"model {model_path} was judged by no second figure to average as: its trainer.evaluation has neither "
            f"scales nor flip; leave out --averaged"
        )
    if Kind.CONFIDENCE in beside and model.discriminator is None:
        raise UserError(
            f"model {model_path} was trained without a discriminator, so it has no confidence map: leave out "
            f"--confidence"
        )
    log.info("%s on %s", network(model.segmenter, model.card.segmenter.architecture), device_name(model.device))
    checksum = str(checksum_of(model_path))
    failed: dict[str, str] = {}

    def to_predict() -> Iterator[_Read]:
        for scene in progress(scenes, len(scenes), "images predicted"):
            try:
                content = scene.read()
                origin = made_of(checksum, content, averaged=averaged)
                if any(there.get(name) != origin for name in names[scene.place]):
                    image = decode_scene(content, scene.place, model.card.decoding)
                    yield _Read(scene=scene, image=image, origin=origin)
            except ImageError as error:
                failed[scene.place] = str(error)

    write, new = writer(to, there, overwrite=overwrite), 0
    for some in _batches(to_predict(), batch):
        found = predictions_of(model, np.stack([one.image for one in some]), model_path, beside, averaged=averaged)
        for one, prediction in zip(some, found, strict=True):
            try:
                for kind, name in zip(kinds, names[one.scene.place], strict=True):
                    write(name, encoded(kind, prediction, one.image, model.card, one.origin), one.origin)
                new += 1
            except UserError as error:
                failed[one.scene.place] = str(error)
    masks = [places[names[scene.place][0]] for scene in scenes if scene.place not in failed]
    if failed:
        told = listed([*failed.values()], f"{len(scenes)} images", _SHOWN)
        raise IncompleteError(f"{told}\n{len(masks)} of {len(scenes)} images have masks now in {to}")
    return Written(masks=masks, new=new)


def _refuse_swapped(model_path: Path, images: Sequence[str]) -> None:
    """Raise UserError if one of the images is a model, and the model is none."""
    model = next(filter(is_model, images), None)
    if model is not None and not is_model(str(model_path)):
        raise UserError(f"{model_path} is no model, but {model} is: name the model first, then the images")


def _batches(read: Iterable[_Read], batch: int) -> Iterator[list[_Read]]:
    """Neighbours of the same size, at most so many at a time."""
    for _, same_size in groupby(read, key=lambda one: one.image.shape):
        while some := list(islice(same_size, batch)):
            yield some


def predictions_of(
    model: Model, images: np.ndarray, path: Path, beside: Sequence[Kind] = (), *, averaged: bool = False
) -> list[Prediction]:
    """What the model in a directory makes of images uint8 [N, H, W, 3].

    Raises UserError if that is NaN, if its card does not say how it reads them, and if they are too many for a GPU.
    """
    protocol_of(model)
    try:
        return model.predictions(
            images,
            averaged=averaged,
            probabilities=Kind.PROBABILITIES in beside,
            confidence=Kind.CONFIDENCE in beside,
        )
    except ValueError as error:
        raise UserError(f"model {path} is of no use ({error}): pull or train the model again") from None
    except torch.OutOfMemoryError:
        count, height, width, _ = images.shape
        raise UserError(
            f"{model.device} has no memory for {count} of {width} x {height} pixels at once: lower --batch, or name "
            f"another --device"
        ) from None


def protocol_of(model: Model) -> Protocol:
    """How a model reads images. Raises UserError if its card does not say so."""
    try:
        return model.protocol
    except ValueError as error:
        raise UserError(str(error)) from None


def load_model(path: Path, device: torch.device | None = None) -> Model:
    """The model in a directory, on a device. Raises UserError for what is no model."""
    if not path.exists():
        raise UserError(f"model {path} does not exist: name a folder, or a registered model, as in shapes@champion")
    try:
        return load(path, device or "cpu")
    except MistakenError as error:
        raise UserError(str(error)) from None
    except BrokenDirectoryError as error:
        raise UserError(f"{error}: pull or train the model again") from None
