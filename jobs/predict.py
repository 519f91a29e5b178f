"""Predictions of a model on images, as palette PNGs of class ids."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from ..models.bundle import Model, load
from ..trainers.data.lists import has_image_suffix
from ..trainers.errors import UserError
from ..trainers.prediction import encode_mask, read_scene
from ..trainers.whole_file import replace_whole
from .outputs import refuse_other_than_file


def predict(model_path: Path, images: Sequence[Path], folder: Path) -> list[Path]:
    """Write one mask an image to a folder, named as the image is; return their paths.

    Raises UserError for what is no model or no image, and for masks that would replace each other, an image, or what
    is no file; images are all read before the first mask is written.
    """
    files = find_images(images)
    masks = {file: folder / f"{file.stem}.png" for file in files}
    _refuse_replacing(masks)
    for file in files:
        read_scene(file)
    model = load_model(model_path)
    folder.mkdir(parents=True, exist_ok=True)
    for file, path in masks.items():
        mask = encode_mask(probabilities_of(model, read_scene(file), model_path), model.card.palette)
        replace_whole(path, partial(Path.write_bytes, data=mask))
    return list(masks.values())


def _refuse_replacing(masks: Mapping[Path, Path]) -> None:
    # Path.resolve raises for a loop of links.
    images = {os.path.realpath(file): file for file in masks}
    owner: dict[Path, Path] = {}
    for file, path in masks.items():
        if image := images.get(os.path.realpath(path)):
            raise UserError(f"mask {path} would replace image {image}: name another folder with --to")
        refuse_other_than_file(path)
        if path in owner:
            raise UserError(f"{owner[path]} and {file} would have the same mask {path}: rename one of them")
        owner[path] = file


def probabilities_of(model: Model, image: np.ndarray, path: Path) -> Tensor:
    """Class probabilities [K, H, W] of an image by the model in a directory. Raises UserError if they are NaN."""
    try:
        return model.probabilities(image)
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


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files among paths, and the images in the folders among them. Raises UserError if there are none."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.iterdir() if has_image_suffix(file.name))
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"image {path} does not exist")
    if not files:
        raise UserError(f"no PNG or JPEG images in {', '.join(map(str, paths))}: name images or a folder of them")
    return list(dict.fromkeys(files))
