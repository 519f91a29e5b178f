"""A loaded model: images in, masks out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .card import Card
from .decoding import Decoding
from .discriminator import Discriminator
from .files import one_line, shown
from .inference import Place, pixels_of, predict_averaged, predict_probabilities, sliding_bands
from .photographs import Photograph, rgb_of, split
from .protocol import Protocol, protocol_on
from .resize import size_of
from .segmenter import Segmenter

MAX_WHOLE = 2**22
"""Pixels of the largest image that goes through a network at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model makes of an image."""

    mask: np.ndarray
    """The most probable class of each pixel [H, W], uint8, or int32 where there are more than 256."""
    probabilities: np.ndarray | None
    """Class probabilities float16 [K, H, W], if they were asked for."""
    confidence: np.ndarray | None
    """The discriminator's confidence float32 [H, W] in 0...1, if it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model, in evaluation mode. It reads images as `evaluate` reads those by which it is judged.

    An image of more than `MAX_WHOLE` pixels it reads in overlapping windows, those of its evaluation, and averages
    where they overlap, as `mode: sliding` does; unless it reads all images at one size.
    """

    card: Card
    segmenter: Segmenter
    discriminator: Discriminator | None

    def __repr__(self) -> str:
        return f"<Model {self.card.segmenter.architecture} of {len(self.card.classes)} classes on {self.device}>"

    @property
    def device(self) -> torch.device:
        """Where its networks are, and what they compute."""
        return next(self.segmenter.parameters()).device

    def to(self, device: str | torch.device) -> "Model":
        """Itself, moved to a device. Raises ValueError for one that is not there."""
        device = device_of(device)
        self.segmenter.to(device)
        if self.discriminator is not None:
            self.discriminator.to(device)
        return self

    def predict(
        self, images: Photograph | Iterable[Photograph], *, averaged: bool = False
    ) -> np.ndarray | list[np.ndarray]:
        """The class of each pixel of an image [H, W], as `advseg predict` writes it; a list of them for several images.

        An image is a path, an image of Pillow, an array uint8 or float in 0...1 of [H, W], [H, W, 3] or [H, W, 4], or
        a tensor of [3, H, W]; of 16 bits, too, where the card has a scale. Several are a list of images, or an array or
        tensor with one more side. `averaged` as for the second figure. Raises ValueError for anything else and for NaN.
        """
        given = split(images)
        if given is None:
            return self.predictions(rgb_of(images, self.card.decoding)[None], averaged=averaged)[0].mask
        read = _all(given, self.card.decoding)
        return [self.predictions(image[None], averaged=averaged)[0].mask for image in read]

    def probabilities(self, image: Photograph, *, averaged: bool = False) -> Tensor:
        """Class probabilities [K, H, W] of one image, on the model's device, as `predict` reads it."""
        return torch.cat([*self._bands(rgb_of(image, self.card.decoding)[None], averaged, False)], -2)[0]

    def predictions(
        self, images: np.ndarray, *, averaged: bool = False, probabilities: bool = False, confidence: bool = False
    ) -> list[Prediction]:
        """What the model makes of images uint8 RGB [N, H, W, 3], which go through the network together.

        Raises ValueError for NaN, and if confidence is asked for and there is no discriminator.
        """
        classes = len(self.card.classes)
        masks, maps, confidences = [], [], []
        for band in self._bands(images, averaged, confidence):
            found = band[:, :classes]
            masks.append(found.argmax(1).cpu().numpy().astype(np.uint8 if classes <= 256 else np.int32))
            if probabilities:
                maps.append(found.half().cpu().numpy())
            if confidence:
                confidences.append(band[:, classes].cpu().numpy())
        joined = (np.concatenate(bands, -2) if bands else [None] * len(images) for bands in (masks, maps, confidences))
        return [Prediction(mask=m, probabilities=p, confidence=c) for m, p, c in zip(*joined, strict=True)]

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, K, h, w] of RGB images [N, 3, H, W] in 0...255.

        They are of the images' size, or where the card has a `resize` of that one, to which images are brought
        bilinearly with a pixel's centre in its middle.
        """
        pixels, resize, (height, width) = self.card.normalisation(images), self.card.resize, images.shape[-2:]
        return self.segmenter(pixels if resize is None else _scaled(pixels, size_of(resize, (height, width))))

    def softmax(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Class probabilities [N, K, H, W] of `logits`, at the height and width of the images."""
        found = logits.softmax(1)
        return found if self.card.resize is None else _scaled(found, size)

    @torch.inference_mode()
    def confidence(self, probabilities: Tensor) -> Tensor:
        """The discriminator's confidence [H, W] in 0...1 in each pixel of class probabilities [K, H, W].

        Raises ValueError for a model without a discriminator.
        """
        if self.discriminator is None:
            raise ValueError("this model was trained without a discriminator, so it has no confidence map")
        return self.discriminator(probabilities[None]).sigmoid()[0, 0]

    @cached_property
    def protocol(self) -> Protocol:
        """How it reads images. Raises ValueError for a card that does not say so."""
        return protocol_on(self.card)

    @torch.inference_mode()
    def _bands(self, images: np.ndarray, averaged: bool, confidence: bool) -> Iterator[Tensor]:
        """Probabilities float32 [N, K, h, W] from top to bottom; with `confidence` it is one more map."""
        size = images.shape[1], images.shape[2]

        def read(places: Sequence[Place]) -> Iterator[Tensor]:
            for rows, columns in places:
                yield self._maps(images[:, rows, columns], averaged, confidence)

        if self.card.resize is not None or size[0] * size[1] <= MAX_WHOLE:
            yield self._maps(images, averaged, confidence)
        else:
            yield from sliding_bands(read, size, self.protocol.evaluation)

    def _maps(self, images: np.ndarray, averaged: bool, confidence: bool) -> Tensor:
        card, protocol = self.card, self.protocol
        pictures = torch.from_numpy(images.copy()).to(self.device)
        pixels = pixels_of(pictures, card.normalisation.on(self.device, torch.float32), protocol.memory_format)
        predict = predict_averaged if averaged else predict_probabilities
        segmenter = self.segmenter.to(memory_format=protocol.memory_format)  # pyright: ignore[reportCallIssue]
        with protocol.precision(self.device):
            found = predict(segmenter, pixels, protocol.evaluation, resize=card.resize).float()
        if not found.isfinite().all():
            raise ValueError("the network computes NaN from finite weights: they are too large")
        if not confidence:
            return found
        return torch.cat([found, torch.stack([self.confidence(each) for each in found])[:, None]], 1)


def device_of(name: str | torch.device) -> torch.device:
    """A device. Raises ValueError for one that is not there or does not work."""
    there = _devices()
    # As PyTorch has it, a kind alone is its first device.
    if str(name) not in {*there, *(device.removesuffix(":0") for device in there)}:
        raise ValueError(f"there is no device {shown(str(name))} here, only {', '.join(there)}")
    try:
        torch.empty(0, device=name)
    # PyTorch has no class of its own for what it was built without.
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {shown(str(name))} does not work: {one_line(error)}") from None
    return torch.device(name)


def _devices() -> list[str]:
    counts = {"cuda": torch.cuda.device_count(), "xpu": torch.xpu.device_count()}
    gpus = [f"{kind}:{number}" for kind, count in counts.items() for number in range(count)]
    return ["cpu", *gpus, *(["mps:0"] if torch.backends.mps.is_available() else [])]


def _all(given: list[Any], decoding: Decoding) -> Iterator[np.ndarray]:
    for place, image in enumerate(given):
        try:
            yield rgb_of(image, decoding)
        except ValueError as error:
            raise ValueError(f"image {place}: {error}") from None


def _scaled(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, list(size), mode="bilinear", align_corners=False)
