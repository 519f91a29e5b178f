"""Between a model and its users: images as they come, masks as they leave."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models.architectures import LEAST_SIDE
from ..models.bundle import Model, refuse_nan
from .data.images import Colour, ImageError, decode_image, mask_dtype, mask_image, read_file
from .inference import EvaluationSettings, Place, pixels_of, predict_averaged, predict_probabilities, sliding_bands
from .marked import marked_png
from .speed import SpeedSettings

MAX_WHOLE = 2**22
"""Pixels of the largest image that goes through a network at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model makes of an image."""

    mask: np.ndarray
    """The most probable class of each pixel [H, W]."""
    probabilities: np.ndarray | None
    """Class probabilities float16 [K, H, W], if they were asked for."""
    confidence: np.ndarray | None
    """The discriminator's confidence float32 [H, W] in 0...1, if it was asked for."""


class Predictor:
    """A model that reads images as `evaluate` reads those by which it is judged.

    An image of more than `MAX_WHOLE` pixels it reads in overlapping windows, those of its settings, and averages
    where they overlap, as `mode: sliding` does; unless it reads all images at one size.
    """

    def __init__(
        self, model: Model, settings: EvaluationSettings, speed: SpeedSettings, *, averaged: bool = False
    ) -> None:
        """With `averaged` it averages over the settings' scales and directions, as the second figure does."""
        self.model = model
        self._segmenter = speed.arrange(model.segmenter)
        self._settings, self._speed = settings, speed
        self._predict = predict_averaged if averaged else predict_probabilities

    def predict(self, images: np.ndarray, *, probabilities: bool = False, confidence: bool = False) -> list[Prediction]:
        """What the model makes of RGB images uint8 [N, H, W, 3].

        Raises ValueError for NaN, and if confidence is asked for and there is no discriminator.
        """
        classes = len(self.model.card.classes)
        masks, maps, confidences = [], [], []
        for band in self._bands(images, confidence):
            found = band[:, :classes]
            masks.append(found.argmax(1).cpu().numpy().astype(mask_dtype(classes - 1)))
            if probabilities:
                maps.append(found.half().cpu().numpy())
            if confidence:
                confidences.append(band[:, classes].cpu().numpy())
        joined = (np.concatenate(bands, -2) if bands else [None] * len(images) for bands in (masks, maps, confidences))
        return [Prediction(mask=m, probabilities=p, confidence=c) for m, p, c in zip(*joined, strict=True)]

    def probabilities(self, image: np.ndarray) -> Tensor:
        """Class probabilities [K, H, W], on the CPU, of an RGB image uint8 [H, W, 3]. Raises ValueError for NaN."""
        return torch.cat([band.cpu() for band in self._bands(image[None], False)], -2)[0]

    @torch.inference_mode()
    def _bands(self, images: np.ndarray, confidence: bool) -> Iterator[Tensor]:
        """Probabilities float32 [N, K, h, W] from top to bottom; with `confidence` it is one more map."""
        size = images.shape[1], images.shape[2]

        def read(places: Sequence[Place]) -> Iterator[Tensor]:
            for rows, columns in places:
                yield self._maps(images[:, rows, columns], confidence)

        if self.model.card.resize is not None or size[0] * size[1] <= MAX_WHOLE:
            yield self._maps(images, confidence)
        else:
            yield from sliding_bands(read, size, self._settings)

    def _maps(self, images: np.ndarray, confidence: bool) -> Tensor:
        card, device = self.model.card, self.model.device
        pixels = pixels_of(images.copy(), card.normalisation, device, torch.float32, self._speed)
        with self._speed.precision(device):
            found = self._predict(self._segmenter, pixels, self._settings, resize=card.resize).float()
        refuse_nan(found)
        if not confidence:
            return found
        return torch.cat([found, torch.stack([self.model.confidence(each) for each in found])[:, None]], 1)


def usual_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_scene(path: Path) -> np.ndarray:
    """An image that is large enough for a network, as uint8 RGB [H, W, 3]. Raises ImageError."""
    return decode_scene(read_file(path), path)


def decode_scene(content: bytes, path: Path | str) -> np.ndarray:
    """`read_scene` of a file that was read already; its path, or what it is called, is for messages."""
    image = decode_image(content, path)
    height, width, _ = image.shape
    if min(height, width) < LEAST_SIDE:
        raise ImageError(
            f"{path} is {width} x {height}, but an image must be at least {LEAST_SIDE} x {LEAST_SIDE} pixels"
        )
    return image


def encode_mask(mask: np.ndarray, palette: tuple[Colour, ...], made_of: str) -> bytes:
    """Class ids [H, W] as the PNG that `write_mask` makes, marked."""
    return marked_png(mask_image(mask, list(palette)), made_of)
