"""A trained model as data: weights in safetensors and a JSON card. Loading one runs no code of its maker's."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from .architectures import ARCHITECTURES, Normalisation, Segmenter, SegmenterSettings, build_segmenter
from .discriminator import Discriminator, DiscriminatorSettings, build_discriminator
from .manifest import BrokenDirectoryError, verify_directory, write_directory
from .tensors import save_tensors

CARD = "model.json"
SEGMENTER = "segmenter.safetensors"
DISCRIMINATOR = "discriminator.safetensors"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a user needs to know of a model beside its weights."""

    segmenter: SegmenterSettings
    discriminator: DiscriminatorSettings | None
    """None for a supervised model, which has none."""
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB in 0...255, one a class."""
    ignore_index: int
    normalisation: Normalisation
    resize: tuple[int, int] | None = None
    """Height and width at which the network reads whole images; None is their own."""
    metrics: dict[str, float] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    """Where it comes from: trial key, spec, dataset digest, code version."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model, in evaluation mode on the CPU."""

    card: Card
    segmenter: Segmenter
    discriminator: Discriminator | None

    @torch.inference_mode()
    def probabilities(self, image: np.ndarray) -> Tensor:
        """Class probabilities [K, H, W] of an RGB image uint8 [H, W, 3].

        Where the card has a `resize`, the image is brought to it and the probabilities back, bilinearly with a
        pixel's centre in its middle.
        """
        pixels = self.card.normalisation(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
        if self.card.resize is None:
            return self.segmenter(pixels).softmax(1)[0]
        read = F.interpolate(pixels, self.card.resize, mode="bilinear", align_corners=False)
        return F.interpolate(self.segmenter(read).softmax(1), image.shape[:2], mode="bilinear", align_corners=False)[0]

    @torch.inference_mode()
    def confidence(self, probabilities: Tensor) -> Tensor:
        """The discriminator's confidence [H, W] in 0...1 in each pixel of class probabilities [K, H, W].

        Raises ValueError for a model without a discriminator.
        """
        if self.discriminator is None:
            raise ValueError("this model was trained without a discriminator, so it has no confidence map")
        return self.discriminator(probabilities[None]).sigmoid()[0, 0]


def save(path: Path, card: Card, segmenter: dict[str, Tensor], discriminator: dict[str, Tensor] | None) -> None:
    """Write a model directory, whole or not at all. The state dicts are those of the card's networks."""

    def write(directory: Path) -> None:
        save_tensors(segmenter, directory / SEGMENTER)
        if discriminator is not None:
            save_tensors(discriminator, directory / DISCRIMINATOR)
        (directory / CARD).write_text(json.dumps(asdict(card), indent=1))

    write_directory(path, write)


def load(path: str | Path) -> Model:
    """Read a model directory.

    Raises BrokenDirectoryError, a ValueError, for a directory that is incomplete, was changed or is no model.
    """
    path = Path(path)
    card = read_card(path)
    segmenter = build_segmenter(card.segmenter, len(card.classes))
    segmenter.load_state_dict(load_file(path / SEGMENTER))
    discriminator = None
    if card.discriminator is not None:
        discriminator = build_discriminator(card.discriminator, len(card.classes))
        discriminator.load_state_dict(load_file(path / DISCRIMINATOR))
        discriminator.eval()
    return Model(card=card, segmenter=segmenter.eval(), discriminator=discriminator)


def read_card(path: Path, *, alone: bool = False) -> Card:
    """The card of a model directory, all of whose files are verified, or if it is `alone` with its manifest, itself.

    Raises BrokenDirectoryError for a directory that is incomplete, was changed or is no model.
    """
    verify_directory(path, only=[CARD] if alone else None)
    if not (path / CARD).is_file():
        raise BrokenDirectoryError(f"{path} has no {CARD}: it holds something else than a model")
    return _card_from_json(json.loads((path / CARD).read_text()))


def _card_from_json(fields: dict[str, Any]) -> Card:
    """The card of what `json` read. An unknown architecture raises ValueError."""
    segmenter, discriminator = fields["segmenter"], fields["discriminator"]
    if segmenter["architecture"] not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"unknown architecture {segmenter['architecture']!r}; this version knows {known}")
    if discriminator is not None:
        discriminator = DiscriminatorSettings(
            widths=tuple(discriminator["widths"]), classifier=discriminator["classifier"]
        )
    normalisation = Normalisation(**{k: tuple(v) for k, v in fields["normalisation"].items()})
    return Card(
        segmenter=ARCHITECTURES[segmenter["architecture"]](**segmenter),
        discriminator=discriminator,
        classes=tuple(fields["classes"]),
        palette=tuple((r, g, b) for r, g, b in fields["palette"]),
        ignore_index=fields["ignore_index"],
        normalisation=normalisation,
        resize=(fields["resize"][0], fields["resize"][1]) if fields.get("resize") else None,
        metrics=fields["metrics"],
        lineage=fields["lineage"],
    )
