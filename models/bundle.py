"""A trained model as data: weights in safetensors and a JSON card. Loading one runs no code of its maker's."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .architectures import build_segmenter
from .card import Card, card_of
from .discriminator import Discriminator, build_discriminator
from .files import one_line, read_document, shown
from .manifest import MANIFEST, BrokenDirectoryError, read_manifest, verify_directory, write_directory
from .mistaken import CARD, refuse_mistaken
from .model import Model, device_of
from .segmenter import Segmenter
from .tensors import load_network, most_bytes, save_tensors

SEGMENTER = "segmenter.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
FILES = (CARD, SEGMENTER, DISCRIMINATOR)
"""What a model's manifest may list."""


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
    path, device = Path(path), device_of(device)
    refuse_mistaken(path)
    card = read_card(path, alone=True)
    build, build_judge = _networks(card)
    verify_directory(path, needs=[SEGMENTER, DISCRIMINATOR] if build_judge else [SEGMENTER])
    segmenter = load_network(build, path / SEGMENTER)
    discriminator = load_network(build_judge, path / DISCRIMINATOR) if build_judge else None
    return Model(card=card, segmenter=segmenter, discriminator=discriminator).to(device)


def weights_of(card: Card) -> dict[str, int]:
    """The files of the weights of a card's networks, and how many bytes each has at most."""
    builds = dict(zip((SEGMENTER, DISCRIMINATOR), _networks(card), strict=True))
    return {name: most_bytes(build) for name, build in builds.items() if build}


def _networks(card: Card) -> tuple[Callable[[], Segmenter], Callable[[], Discriminator] | None]:
    """What make the networks of a card."""
    judge, classes = card.discriminator, len(card.classes)
    build_judge = None if judge is None else partial(build_discriminator, judge, classes)
    return partial(build_segmenter, card.segmenter, classes, card.config), build_judge


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
