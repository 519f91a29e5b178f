"""A trained model as data: weights in safetensors and a JSON card. Loading one runs no code of its maker's."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .architectures import Segmenter, build_segmenter
from .card import Card, card_of
from .discriminator import Discriminator, build_discriminator
from .files import one_line, read_document, shown
from .manifest import MANIFEST, BrokenDirectoryError, read_manifest, verify_directory, write_directory
from .tensors import load_network, most_bytes, save_tensors

CARD = "model.json"
SEGMENTER = "segmenter.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
FILES = (CARD, SEGMENTER, DISCRIMINATOR)
"""What a model's manifest may list."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model, in evaluation mode."""

    card: Card
    segmenter: Segmenter
    discriminator: Discriminator | None
    device: torch.device
    """Where its networks are, and what they compute."""

    def __repr__(self) -> str:
        return f"<Model {self.card.segmenter.architecture} of {len(self.card.classes)} classes on {self.device}>"

    @torch.inference_mode()
    def probabilities(self, image: np.ndarray) -> Tensor:
        """Class probabilities [K, H, W] of an RGB image uint8 [H, W, 3]. Raises ValueError for another, and for NaN."""
        _refuse_other_than_image(image)
        images = torch.from_numpy(image.copy()).to(self.device).permute(2, 0, 1)[None]
        found = self.softmax(self.logits(images), images.shape[-2:])
        refuse_nan(found)
        return found[0]

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, K, h, w] of RGB images [N, 3, H, W] in 0...255.

        They are of the images' size, or where the card has a `resize` of that one, to which images are brought
        bilinearly with a pixel's centre in its middle.
        """
        pixels, resize = self.card.normalisation(images), self.card.resize
        return self.segmenter(pixels if resize is None else _scaled(pixels, resize))

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


def refuse_nan(probabilities: Tensor) -> None:
    """Raise ValueError for class probabilities that are NaN."""
    if not probabilities.isfinite().all():
        raise ValueError("the network computes NaN from finite weights: they are too large")


def _refuse_other_than_image(image: object) -> None:
    # Of floats in 0...1 the network would see black.
    found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be an array of RGB, uint8 [H, W, 3], but is {found}")


def _scaled(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, list(size), mode="bilinear", align_corners=False)


def save(path: Path, card: Card, segmenter: dict[str, Tensor], discriminator: dict[str, Tensor] | None) -> None:
    """Write a model directory, whole or not at all. The state dicts are those of the card's networks."""

    def write(directory: Path) -> None:
        save_tensors(segmenter, directory / SEGMENTER)
        if discriminator is not None:
            save_tensors(discriminator, directory / DISCRIMINATOR)
        (directory / CARD).write_text(json.dumps(asdict(card), indent=1))

    write_directory(path, write)


def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model directory, to a device.

    Raises BrokenDirectoryError, a ValueError, for a directory that is incomplete, was changed or is no model, and
    ValueError for a device that is not there.
    """
    path, device = Path(path), _device(device)
    card = read_card(path, alone=True)
    build, build_judge = _networks(card)
    verify_directory(path, needs=[SEGMENTER, DISCRIMINATOR] if build_judge else [SEGMENTER])
    segmenter = load_network(build, path / SEGMENTER)
    discriminator = load_network(build_judge, path / DISCRIMINATOR).to(device) if build_judge else None
    return Model(card=card, segmenter=segmenter.to(device), discriminator=discriminator, device=device)


def weights_of(card: Card) -> dict[str, int]:
    """The files of the weights of a card's networks, and how many bytes each has at most."""
    builds = dict(zip((SEGMENTER, DISCRIMINATOR), _networks(card), strict=True))
    return {name: most_bytes(build) for name, build in builds.items() if build}


def _networks(card: Card) -> tuple[Callable[[], Segmenter], Callable[[], Discriminator] | None]:
    """What make the networks of a card."""
    judge, classes = card.discriminator, len(card.classes)
    build_judge = None if judge is None else partial(build_discriminator, judge, classes)
    return partial(build_segmenter, card.segmenter, classes), build_judge


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # PyTorch has no class of its own for what it was built without.
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"there is no device {shown(str(name))} here: {one_line(error)}") from None
    return device


def read_card(path: Path, *, alone: bool = False) -> Card:
    """The card of a model directory, all of whose files are verified, or if it is `alone` with its manifest, itself.

    Raises BrokenDirectoryError for a directory that is incomplete, was changed or is no model.
    """
    verify_directory(path, only=[CARD] if alone else None, needs=[CARD])
    try:
        return card_of(read_document(path / CARD))
    except ValueError as error:
        raise BrokenDirectoryError(f"{path / CARD} is no card of a model: {one_line(error)}") from None


def model_files(path: Path) -> list[str]:
    """The names of a model's files, as its manifest has them. Raises BrokenDirectoryError for others among them.

    Whoever wrote a manifest may list programs in it, too: we would not run them, but another program might.
    """
    names = read_manifest(path)
    for name in names:
        if name not in FILES:
            raise BrokenDirectoryError(f"its {MANIFEST} lists {shown(name)}, but a model is {', '.join(FILES)}")
    return [*names]
