"""Between a model and its users: images as they come, masks as they leave."""

import logging
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..models.architectures import LEAST_SIDE
from ..models.bundle import Model, refuse_nan
from .data.images import (
    MAX_PIXELS,
    Colour,
    ImageError,
    decode_image,
    read_file,
    read_size,
    software_of,
    write_mask,
)
from .described import device_name, network
from .inference import EvaluationSettings, pixels_of, predict_averaged, predict_probabilities
from .speed import SpeedSettings

log = logging.getLogger(__name__)

_SOFTWARE = "advseg predict"


class Predictor:
    """A model that reads images as `evaluate` reads those by which it is judged, on a GPU if there is one."""

    def __init__(
        self, model: Model, settings: EvaluationSettings, speed: SpeedSettings, *, averaged: bool = False
    ) -> None:
        """With `averaged` it averages over the settings' scales and directions, as the second figure does."""
        self.model = model
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._segmenter = speed.arrange(model.segmenter.to(self._device))
        self._settings, self._speed = settings, speed
        self._predict = predict_averaged if averaged else predict_probabilities
        log.info("%s on %s", network(model.segmenter, model.card.segmenter.architecture), device_name(self._device))

    @torch.inference_mode()
    def probabilities(self, image: np.ndarray) -> Tensor:
        """Class probabilities [K, H, W], on the CPU, of an RGB image uint8 [H, W, 3]. Raises ValueError for NaN."""
        pixels = pixels_of(image[None].copy(), self.model.card.normalisation, self._device, torch.float32, self._speed)
        with self._speed.precision(self._device):
            found = self._predict(self._segmenter, pixels, self._settings, resize=self.model.card.resize)
        refuse_nan(found)
        return found[0].float().cpu()


def read_scene(path: Path) -> np.ndarray:
    """An image that is large enough for a network, as uint8 RGB [H, W, 3]. Raises ImageError."""
    return decode_scene(read_file(path), path)


def check_scene(path: Path) -> None:
    """Raise ImageError for what is no image that is large enough, as far as its header tells."""
    height, width = read_size(path)
    if height * width > MAX_PIXELS:
        raise ImageError(f"{path} has {width} x {height} pixels, but at most {MAX_PIXELS} are read: scale it down")
    _refuse_small(height, width, path)


def decode_scene(content: bytes, path: Path | str) -> np.ndarray:
    """`read_scene` of a file that was read already; its path, or what it is called, is for messages."""
    image = decode_image(content, path)
    height, width, _ = image.shape
    _refuse_small(height, width, path)
    return image


def _refuse_small(height: int, width: int, path: Path | str) -> None:
    if min(height, width) < LEAST_SIDE:
        raise ImageError(
            f"{path} is {width} x {height}, but an image must be at least {LEAST_SIDE} x {LEAST_SIDE} pixels"
        )


def encode_mask(probabilities: Tensor, palette: tuple[Colour, ...]) -> bytes:
    """The most probable class of each pixel, of class probabilities [K, H, W], as the PNG that `write_mask` makes.

    `is_predicted` knows it again.
    """
    content = BytesIO()
    write_mask(content, probabilities.argmax(0).numpy(), list(palette), software=_SOFTWARE)
    return content.getvalue()


def is_predicted(file: BinaryIO) -> bool:
    """Whether a file is a mask that `encode_mask` made: not a photograph, nor a mask of another hand."""
    return software_of(file) == _SOFTWARE
